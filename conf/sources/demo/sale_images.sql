-- One row per (sale_id, position): a photo of the sale. Position 0 is the cover; paths are relative to images.root.
select
    offer_id as sale_id,
    photo as image_uri,
    cast(place_in_gallery - 1 as int) as position
from {raw_sale_images}
