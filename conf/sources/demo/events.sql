-- One row per event; an action of another name keeps it, so that validation rejects the row and shows it.
select
    member_id as user_id,
    offer_id as sale_id,
    case action when 'view' then 'visit' when 'booking' then 'purchase' else action end as kind,
    happened_at as occurred_at,
    logged_at as recorded_at,
    amount_eur as revenue
from {raw_events}
