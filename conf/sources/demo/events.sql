-- One row per event. An unknown action keeps its name, so that validation rejects and reports the row. Events that the
-- website sent to the service are included: table `recorded_events` always exists, and is empty if there are none.
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
