-- One row per event; an action of another name keeps it, so that validation rejects the row and shows it. What the
-- website told the service of comes too: `recorded_events` is always there, and empty until it did.
select
    member_id as user_id,
    offer_id as sale_id,
    case action when 'view' then 'visit' when 'booking' then 'purchase' else action end as kind,
    happened_at as occurred_at,
    logged_at as recorded_at,
    amount_eur as revenue
from {raw_events}
union all
select user_id, sale_id, kind, occurred_at, recorded_at, revenue
from {recorded_events}
