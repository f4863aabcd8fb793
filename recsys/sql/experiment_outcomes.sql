-- One row per event of a user of the experiment in [first page - :lookback, first page + :attribution), microseconds.
-- An event whose token is the request_id of a page belongs to the user of that page, even if it has another user_id: a
-- visitor may log in before paying. Other events belong to their own user. known_at is the time from which an event
-- counts, at the earliest that of the first page.
with page_owners as (
    select request_id, min(user_id) as user_id from {pages} where is_analysed group by request_id
), owned_events as (
    select
        coalesce(page_owners.user_id, events.user_id) as user_id,
        page_owners.user_id is not null as is_attributed,
        events.* except (user_id)
    from {events} as events
    left join page_owners
        on page_owners.request_id = coalesce(events.token, events.user_id)  -- no null: one partition would get all
        and events.token is not null
), experiment_outcomes as (
    select
        users.user_id,
        events.sale_id,
        events.kind,
        events.occurred_at,
        if(events.is_attributed, events.token, null) as token,
        events.occurred_at < users.first_shown_at as is_past,
        events.revenue,
        greatest(events.occurred_at, events.recorded_at, users.first_shown_at) as known_at
    from {users} as users
    inner join owned_events as events using (user_id)
    where events.occurred_at >= users.first_shown_at - :lookback
        and events.occurred_at < users.first_shown_at + :attribution
)
select * from experiment_outcomes
