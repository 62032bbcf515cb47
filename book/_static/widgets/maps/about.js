// Written by tools/feature_maps.py.
window.unetWidgets.maps = {
  "words": "The sizes are the paper's. The pictures are those of a trained network with 16 channels in its first block instead of 64, which was given the first slice of the EM stack (Cardona et al. 2010).",
  "shown": {
    "input": [
      1,
      1
    ],
    "contract1.relu1": [
      4,
      16
    ],
    "contract1.relu2": [
      4,
      16
    ],
    "contract2.pool": [
      4,
      16
    ],
    "contract2.relu1": [
      4,
      32
    ],
    "contract2.relu2": [
      4,
      32
    ],
    "contract3.pool": [
      4,
      32
    ],
    "contract3.relu1": [
      4,
      64
    ],
    "contract3.relu2": [
      4,
      64
    ],
    "contract4.pool": [
      4,
      64
    ],
    "contract4.relu1": [
      4,
      128
    ],
    "contract4.relu2": [
      4,
      128
    ],
    "contract5.pool": [
      4,
      128
    ],
    "contract5.relu1": [
      4,
      256
    ],
    "contract5.relu2": [
      4,
      256
    ],
    "expand4.crop_concat": [
      4,
      256
    ],
    "expand4.relu1": [
      4,
      128
    ],
    "expand4.relu2": [
      4,
      128
    ],
    "expand3.crop_concat": [
      4,
      128
    ],
    "expand3.relu1": [
      4,
      64
    ],
    "expand3.relu2": [
      4,
      64
    ],
    "expand2.crop_concat": [
      4,
      64
    ],
    "expand2.relu1": [
      4,
      32
    ],
    "expand2.relu2": [
      4,
      32
    ],
    "expand1.crop_concat": [
      4,
      32
    ],
    "expand1.relu1": [
      4,
      16
    ],
    "expand1.relu2": [
      4,
      16
    ],
    "output": [
      2,
      2
    ]
  }
};
