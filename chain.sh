. /tmp/h/q1-home/env.sh
for v in q_geo:pitch-15 q_move:flair_undermask2 q_atlas:mni q_res:mixed_moved4_4 q_move:flair_undermask4 q_res:gap4of6mixed q_move:t1c_mv2 q_fov:flair_endsintumour q_geo:shear12 q_type:int8 q_res:up05 q_one:t1c_obl20; do
nice -n 15 .venv/bin/python /tmp/h/q1-home/drv.py ${v%%:*} BraTS20_Training_002 ${v##*:} >> /tmp/h/q1-home/b2.log 2>&1
done
