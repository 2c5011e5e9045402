"""What huggingface_hub makes of a cache that the toolkit filled (read), and a cache that it fills
itself from the same hub (write).

    python tests/cpu/hub/cache.py read|write owner/name COMMIT CACHE FILE...
"""

import os
import sys

mode, repo, commit, cache, *files = sys.argv[1:]
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if mode == "read":
    os.environ["HF_HUB_OFFLINE"] = "1"

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache

if mode == "write":
    for file in files:
        hf_hub_download(repo, file, cache_dir=cache)
else:
    folder = snapshot_download(repo, cache_dir=cache, local_files_only=True)
    assert folder.endswith(commit), folder
    for file in files:
        path = try_to_load_from_cache(repo, file, cache_dir=cache)
        assert isinstance(path, str) and os.path.getsize(path) > 0, (file, path)
        assert hf_hub_download(repo, file, cache_dir=cache, local_files_only=True) == path

found = scan_cache_dir(cache)
assert not found.warnings, found.warnings
(repository,) = found.repos
assert (repository.repo_id, repository.repo_type) == (repo, "model"), repository
(revision,) = repository.revisions
assert revision.commit_hash == commit and revision.refs == {"main"}, revision
names = {str(file.file_path.relative_to(revision.snapshot_path)) for file in revision.files}
assert names == set(files), names
