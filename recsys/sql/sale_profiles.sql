-- One row per (sale_id, feature): the TF-IDF profile of a sale, scaled to length 1.
-- Only sales that open before :until (microseconds since 1970 UTC) are used, and features of at least :min_sales sales.
with known_sales as (
    select sale_id from {sales} where opens_at < timestamp_micros(:until)
), known_features as (
    select features.* from {sale_features} as features left semi join known_sales on features.sale_id = known_sales.sale_id
), feature_weights as (
    select feature, ln((1 + (select count(*) from known_sales)) / (1 + count(*))) + 1 as idf
    from known_features
    group by feature
    having count(*) >= :min_sales
), weighted as (
    select sale_id, feature, occurrences * idf as value
    from known_features
    inner join feature_weights using (feature)
), sale_profiles as (
    select sale_id, feature, value / sqrt(sum(value * value) over (partition by sale_id)) as value from weighted
)
select * from sale_profiles
