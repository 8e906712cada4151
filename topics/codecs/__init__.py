"""One codec, one file, named as in YAML: `json`, `raw`, `text`. `codec_named` in `topics/codec_of.py` finds them."""
