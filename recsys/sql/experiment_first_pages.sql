-- One row per user of the experiment: the variant, time and attributes of the user's first page.
with experiment_first_pages as (
    select
        user_id,
        min_by(variant, struct(shown_at, request_id)) as variant,
        min(shown_at) as first_shown_at,
        min(variant) != max(variant) as jumped,
        min_by(attributes, struct(shown_at, request_id)) as attributes
    from {pages}
    where is_analysed
    group by user_id
)
select * from experiment_first_pages
