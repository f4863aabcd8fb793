-- One row per (user_id, day) with a page within :attribution microseconds of the user's first page, day in UTC.
with experiment_page_days as (
    select
        user_id,
        date_from_unix_date(int(pages.shown_at div 86400000000)) as day,
        bool_or(pages.differed) as triggered,
        double(count(*)) as exposures,
        double(count_if(pages.fell_back)) as fallbacks
    from {pages} as pages
    inner join {users} as users using (user_id)
    where pages.is_analysed and pages.shown_at < users.first_shown_at + :attribution
    group by all
)
select * from experiment_page_days
