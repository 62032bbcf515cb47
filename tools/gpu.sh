#!/bin/sh
# On a machine with a GPU, in the root of the repository: the tests on CuPy, then every figure.
#     sh tools/gpu.sh FOLDER [SECONDS]
# UNET_NP_DATA says where the data lies; tools/gpu_data.py lays out as much of it as is needed.
folder=$1
seconds=${2:-480}
mkdir -p "$folder"
python3 -c "import imagecodecs" || echo "gpu.sh: no imagecodecs, without which U373 and HeLa cannot be read"
export PYTHONPATH=. MPLBACKEND=Agg
# What a bare machine lacks takes its own tests along and no others.
timeout $((seconds / 8)) python3 -m pytest -q -n auto -p no:cacheprovider -o addopts= \
    -o filterwarnings=default --continue-on-collection-errors -k 'cupy or cuda' -rfE --tb=short tests \
    > "$folder/tests.txt" 2>&1
tail -n 20 "$folder/tests.txt"
python3 -m bench gpu --folder "$folder" --seconds $((seconds * 7 / 8)) --out "$folder/all.json"
