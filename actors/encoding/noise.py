"""Pages that nothing makes smaller (encrypted, compressed, random): told by a sample, in under a microsecond."""

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, Bytes, kernel

# Of 256 bytes drawn evenly, 162 ± 6 are different from each other; of text, code and tables at most about 130.
SAMPLES = 256
STEP = PAGE_BYTES // SAMPLES
DISTINCT_MIN = 142


@kernel
def noisy_pages(pages: Bytes) -> int:
    """How many of the pages that lie back to back in `pages` look like noise."""
    seen = np.zeros(256, np.int64)
    count = 0
    for page in range(len(pages) // PAGE_BYTES):
        first = page * PAGE_BYTES
        distinct = 0
        for i in range(SAMPLES):
            # Not always the same place in a record: most have 8, 16 or 64 bytes.
            byte = pages[first + i * STEP + i % STEP]
            if seen[byte] != page + 1:
                seen[byte] = page + 1
                distinct += 1
        if distinct >= DISTINCT_MIN:
            count += 1
    return count
