-- One row per (sale_id, feature): an attribute 'key=value', or the price band.
-- The band of number n holds the prices of [ratio^n, ratio^(n+1)), ratio = :price_band_ratio; price 0 has one of its own.
with attributes as (
    select sale_id, key, value from {sales} lateral view explode(attributes) as key, value
), price_bands as (
    select sale_id, if(price = 0, 'free', string(floor(ln(price) / ln(:price_band_ratio)))) as band
    from {sales}
    where price is not null
), metadata_features as (
    select sale_id, concat(key, '=', value) as feature, 1 as occurrences from attributes where value != ''
    union all
    select sale_id, concat('price_band=', band) as feature, 1 as occurrences from price_bands
)
select * from metadata_features
