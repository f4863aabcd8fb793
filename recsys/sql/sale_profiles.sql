-- One row per (sale_id, feature): the profile of a sale, of length 1; a feature that few sales have tells more.
-- Only sales that open before :until (microseconds since 1970 UTC) are known; a feature counts once :min_sales have it.
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
