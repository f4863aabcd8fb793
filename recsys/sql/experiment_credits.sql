-- One row per purchase credited to a variant: the variant contributed the sale to an interleaved page shown before.
-- The page is the one that the purchase's token names, else the latest one that showed the sale.
with placed as (
    select
        outcomes.user_id,
        outcomes.known_at,
        outcomes.sale_id,
        outcomes.occurred_at,
        get(pages.teams, int(array_position(pages.sale_ids, outcomes.sale_id)) - 1) as variant,
        struct(coalesce(pages.request_id = outcomes.token, false), pages.shown_at, pages.request_id) as nearness
    from {outcomes} as outcomes
    inner join {pages} as pages using (user_id)
    where outcomes.kind = 'purchase'
        and not outcomes.is_past
        and pages.is_analysed
        and array_contains(pages.sale_ids, outcomes.sale_id)
        and (pages.shown_at <= outcomes.occurred_at or pages.request_id = outcomes.token)
), experiment_credits as (
    select
        user_id,
        date_from_unix_date(int(known_at div 86400000000)) as day,
        max_by(variant, nearness) as variant
    from placed
    group by user_id, known_at, sale_id, occurred_at
)
select user_id, day, variant from experiment_credits where variant != ''  -- empty: a position filled after the draft
