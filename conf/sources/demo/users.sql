-- One row per user.
select
    member_id as user_id,
    map('market', market, 'channel', channel) as attributes
from {raw_users}
