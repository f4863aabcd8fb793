-- One row per sale; prices are in euros per person; a discount of 53 % is in the band '50-59 %'.
select
    offer_id as sale_id,
    starts as opens_at,
    ends as closes_at,
    headline as title,
    body_text as description,
    price_eur as price,
    map(
        'country', country,
        'region', region,
        'category', kind_of_stay,
        'discount_band', concat(discount_percent div 10 * 10, '-', discount_percent div 10 * 10 + 9, ' %')
    ) as attributes
from {raw_sales}
