-- One row per event.
select user_id, sale_id, kind, occurred_at from {events}
