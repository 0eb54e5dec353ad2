"""Adapters: attach and save them, read any, prove, combine and write them.

- A change of one layer: `changes.py` has the formulas, `contents.py` an adapter of such changes,
  `base.py` the weights that they change, `low_rank.py` their nearest LoRA.
- Training: `attach.py`, `files.py`; to go on from another: `start_file.py`, `start_shape.py`,
  `starting.py`; sizes: `inventory.py`, `matching.py`.
- Drawing: `applying.py` changes weights, `unfused.py` computes beside them.
- Files: `reading/` understands any trainer's, `writing/` makes those for other programs and merged
  models, `consumers/` are those programs' own formulas, `combining/` makes one of several.
- Proof: `verification/`.
"""
