"""Text of one file -> chunks: pure, deterministic, and local, so that an edit changes the chunks around it only.

`chunker.chunk_text` cuts, `languages.language_of` tells languages, `identity.fingerprint` is what chunks depend on.
Syntax trees, and each grammar, are imported when first needed.
"""
