-- One row per sale.
select * from {sales}
