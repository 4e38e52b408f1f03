"""Cuts the text of a file into chunks. Pure, deterministic and local: an edit only changes the chunks around it.

`chunker.chunk_text` cuts, `languages.language_of` recognises languages, and `identity.fingerprint` names everything
that the chunks depend on. tree-sitter and each grammar are imported when they are first needed. `pool.ChunkingPool`
runs all this in child processes.
"""
