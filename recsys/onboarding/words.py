"""Words of columns' names and of kinds of events, in English, German, French, Spanish, Italian, Dutch and Portuguese.

Without accents, in lower case; words of one name are joined by `_`. Add those of your language.
"""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SALE = _names(
    """
    sale offer deal product item article artikel produkt angebot produit offre vente producto articulo oferta
    venta prodotto articolo offerta vendita aanbieding sku asin parent_asin stock listing business movie film
    book song track game hotel trip content news news_article good variant style material gtin ean isbn
    produto anuncio
    """
)
USER = _names(
    """
    user customer visitor member client household shopper buyer account person cust uid reviewer subscriber
    kunde kunden nutzer benutzer mitglied utilisateur membre cliente usuario comprador utente klant gebruiker
    fullvisitor
    comprador consumidor
    """
)
OPENS_AT = _names(
    """
    opens_at opens open starts_at starts start start_date start_time begin begins begin_date opening valid_from
    available_from launch launch_date release_date published_at publish_date beginn startdatum gueltig_ab
    verkaufsstart debut date_debut ouverture date_ouverture inicio fecha_inicio apertura inizio data_inizio
    startdatum vanaf
    abertura data_abertura data_inicio
    """
)
CLOSES_AT = _names(
    """
    closes_at closes close ends_at ends end end_date end_time closing valid_to valid_until until available_until
    expires expires_at expiry expiry_date expiration_date ende enddatum gueltig_bis verkaufsende fin date_fin
    fermeture date_fermeture cloture fecha_fin cierre fine data_fine chiusura einde einddatum tot
    fechamento encerramento data_fim
    """
)
TITLE = _names(
    """
    title headline name product_name item_name product_title item_title prod_name titel ueberschrift bezeichnung
    produktname artikelname titre libelle nom designation titulo nombre titolo nome naam productnaam description
    label
    nome_produto
    """
)
DESCRIPTION = _names(
    """
    description desc long_description body_text body details detail_desc detail text summary abstract overview
    beschreibung langtext descriptif descripcion descrizione omschrijving
    descricao
    """
)
PRICE = _names(
    """
    price unit_price sale_price current_price price_eur price_usd preis einzelpreis verkaufspreis prix
    prix_unitaire precio precio_unitario prezzo prijs cost amount
    preco preco_unitario
    """
)
KIND = _names(
    """
    kind event_type action event action_type behavior behaviour behavior_type interaction interaction_type
    activity type verb aktion ereignis evenement accion evento tipo azione actie
    acao
    """
)
OCCURRED_AT = _names(
    """
    occurred_at happened_at event_time event_timestamp timestamp datetime time purchased_at ordered_at
    order_date purchase_date invoice_date transaction_date transaction_timestamp created_at date ts t_dat
    zeitpunkt zeit bestelldatum kaufdatum datum horodatage date_commande date_achat heure fecha fecha_compra
    fecha_pedido momento data data_ordine data_acquisto ora tijdstip tijd besteldatum
    transaction_dt transaction_time purchase_timestamp order_purchase_timestamp data_compra data_pedido data_hora
    """
)
RECORDED_AT = _names(
    """
    recorded_at logged_at received_at ingested_at
    """
)
REVENUE = _names(
    """
    revenue amount total amount_eur amount_usd line_total total_price sales_value order_value value umsatz
    betrag gesamtpreis montant chiffre_affaires importe ingresos importo ricavo bedrag omzet
    valor receita
    """
)
QUANTITY = _names(
    """
    quantity qty pieces units menge anzahl stueck quantite qte cantidad quantita aantal
    quantidade amount
    """
)
PRICE_OF_A_PIECE = _names(
    """
    unit_price price item_price preis einzelpreis prix prix_unitaire precio precio_unitario prezzo prijs
    preco preco_unitario sales_price
    """
)
IMAGE_URI = _names(
    """
    image_uri image_url image photo_url photo picture img_url img bild foto uri url path file file_name
    image_path immagine imagen afbeelding
    """
)
POSITION = _names(
    """
    position place place_in_gallery rank sort order index nr
    """
)
CATEGORY = frozenset(
    _names(
        """
    category main_category product_category category_name category_code department section kategorie warengruppe
    categorie rubrique categoria rubro reparto genre genres product_type_name
    product_category_name categoria_produto subcategoria
        """
    )
)
COUNTRY = frozenset(
    _names(
        """
    country country_code land pays pais paese
        """
    )
)
ORDER = frozenset(
    _names(
        """
    order invoice basket receipt transaction purchase bestellung rechnung kauf commande facture achat pedido
    factura compra ordine fattura acquisto bestelling
        """
    )
)
SELLER = frozenset(
    _names(
        """
    seller vendor merchant supplier store verkaeufer haendler vendeur vendedor venditore verkoper
        """
    )
)
GROUP = frozenset(
    _names(
        """
    category categories class subclass subcategory department section group type brand color colour family line
    kategorie warengruppe marke farbe categorie rubrique marque couleur categoria rubro marca color reparto colore cor
        """
    )
)
"""What names a group of sales, not a single one."""
CODE = frozenset(
    _names(
        """
    id code no nr num number
        """
    )
)
PROPERTY = frozenset(
    _names(
        """
    property attribute feature key field eigenschaft attribut merkmal propriete atributo propiedad attributo
    proprieta eigenschap
        """
    )
)
VALUE = frozenset(
    _names(
        """
    value val values wert valeur valor valore waarde
        """
    )
)
RESERVED = frozenset(
    _names(
        """
    all and any as by case cast date else end from group having in interval is join left like limit not null on
    or order right select table then timestamp union user using values when where with
        """
    )
)
"""Words of SQL."""
TIME = frozenset(
    _names(
        """
    at ts time times timestamp datetime date dat dt day when on created occurred happened start starts begin end
    ends opens closes until expires valid zeit zeitpunkt uhrzeit datum tag heure jour horodatage moment fecha
    hora dia data ora giorno tijd tijdstip dag
    dt hora
        """
    )
)
CART = frozenset(
    _names(
        """
    cart carts basket addtocart atc warenkorb panier carrito carrello winkelwagen
    added checkout carrinho
        """
    )
)
NEITHER = frozenset(
    _names(
        """
    remove removed removes delete return returned returns refund refunded cancel canceled cancelled impression
    impressions shown search login logout signup register retoure ruckgabe storno storniert retour annulation
    annule devolucion cancelado reso rimborso annullato retourneren geannuleerd
    devolucao cancelado reembolso unavailable failed declined rejected abandoned
        """
    )
)
"""Kinds of events that are no interest in a sale, or take it back."""
PURCHASE = frozenset(
    _names(
        """
    purchase purchased purchases buy buys bought order ordered orders transaction sale sold paid payment booking
    booked book conversion kauf gekauft bestellung bestellt buchung achat achete commande commandee compra
    comprado pedido acquisto acquistato ordine aankoop gekocht bestelling
    comprado venda delivered shipped fulfilled invoiced approved processing
        """
    )
)
VISIT = frozenset(
    _names(
        """
    view viewed views visit visited visits click clicked clicks clickout open opened detail details pageview pv
    cart carts basket addtocart atc wishlist favorite favourite fav like save bookmark ansicht angesehen besuch
    klick warenkorb merkzettel vue vu visite clic panier vista visto visita clic carrito visualizzazione
    carrello bekeken weergave klik bezoek winkelwagen
    added checkout visualizacao visualizado clique carrinho
        """
    )
)
