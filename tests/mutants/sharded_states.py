"""Ways to break states in shards, each of which its law must notice."""

from tests.mutants.run import Mutant

REFUSED = "a_lost_or_foreign_shard"
ERROR = "an_error_while_shards_are_written"

MUTANTS = [
    # what lies in the folder, and whether it belongs there
    Mutant(REFUSED, "sorted(digests.keys() - found)", "()"),
    Mutant(REFUSED, "sorted(found - digests.keys())", "()"),
    Mutant(REFUSED, "if _digest(folder / name).hex() != digest:", "if False:"),
    Mutant(REFUSED, 'stated.get("format") != FORMAT', "False"),
    Mutant(REFUSED, 'for field in ("run", "shards", "tensors"):', 'for field in ("run", "tensors"):'),
    Mutant(REFUSED, 'complete(place, stated["run"], STATE, required=STATE)', 'stated["run"]'),
    Mutant(REFUSED, "math.prod(shape) >= 2**63", "False"),
    Mutant(REFUSED, "if not is_list or", "if"),
    Mutant("a_folder_that_is_not_shared", "if seen[0] != len(shards) * world.size:", "if False:"),
    # writing: not into the place of the state before; checksums by all processes
    Mutant(ERROR, "HuggingFaceStorageWriter(str(unfinished)", "HuggingFaceStorageWriter(str(folder)"),
    Mutant(1, "range(world.rank, len(shards), world.size)", "range(1, len(shards), world.size)"),
    Mutant(1, "int(maker[0])", "os.getpid()"),
    # reading
    Mutant(1, "dcp.load(tensors, storage_reader=reader)", "pass"),
]  # fmt: skip
