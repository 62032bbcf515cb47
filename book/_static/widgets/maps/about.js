// Written by tools/feature_maps.py.
window.unetWidgets.maps = {
  "words": "On the first slice of the EM stack (Cardona et al. 2010), with random weights before any training.",
  "channels": {
    "input": 1,
    "contract1.relu1": 4,
    "contract1.relu2": 4,
    "contract2.pool": 4,
    "contract2.relu1": 4,
    "contract2.relu2": 4,
    "contract3.pool": 4,
    "contract3.relu1": 4,
    "contract3.relu2": 4,
    "contract4.pool": 4,
    "contract4.relu1": 4,
    "contract4.relu2": 4,
    "contract5.pool": 4,
    "contract5.relu1": 4,
    "contract5.relu2": 4,
    "expand4.crop_concat": 4,
    "expand4.relu1": 4,
    "expand4.relu2": 4,
    "expand3.crop_concat": 4,
    "expand3.relu1": 4,
    "expand3.relu2": 4,
    "expand2.crop_concat": 4,
    "expand2.relu1": 4,
    "expand2.relu2": 4,
    "expand1.crop_concat": 4,
    "expand1.relu1": 4,
    "expand1.relu2": 4,
    "output": 2
  }
};
