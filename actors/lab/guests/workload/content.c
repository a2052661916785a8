/* Content as programs have it in memory: records with ids, pointers, counters, words and some noise; about 3:1. */
#include "nova.h"

#include <string.h>

static const char WORDS[64][8] = {
    "account", "address", "balance", "billing", "booking", "browser", "cancel ", "catalog", "channel", "comment",
    "company", "contact", "country", "created", "current", "deliver", "deleted", "desktop", "details", "display",
    "enabled", "expired", "feature", "finance", "gateway", "german ", "gold   ", "history", "invoice", "journal",
    "kitchen", "library", "limited", "machine", "manager", "message", "mobile ", "monthly", "network", "newest ",
    "offline", "opening", "orders ", "package", "partner", "payment", "pending", "premium", "private", "product",
    "profile", "receipt", "refused", "regular", "request", "revenue", "session", "shipped", "status ", "stored ",
    "summary", "support", "updated", "visitor",
};

uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

uint64_t sum_words(const uint64_t *words, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += words[i] * weight_of(i);
    return sum;
}

/* Records of 64 bytes; equal seeds give equal content, different seeds differ in every record. */
void fill_structured(uint64_t *words, size_t count, uint64_t seed) {
    uint64_t state = seed * 0xD1342543DE82EF95ULL + 1;
    for (size_t i = 0; i < count; i += 8) {
        uint64_t record[8];
        uint64_t noise = next_random(&state);
        record[0] = seed * 64 + i / 8;
        record[1] = 0x00007f3a10000000ULL + ((noise >> 8 & 0xfffff) << 4);
        record[2] = 1750000000000000ULL + record[0] * 1009 + (noise >> 40 & 0x3ff);
        memcpy(&record[3], WORDS[noise >> 50 & 63], 8);
        memcpy(&record[4], WORDS[noise >> 56 & 63], 8);
        record[5] = noise & 0xff;
        record[6] = next_random(&state) & 0xffffffULL;
        record[7] = 0;
        size_t left = count - i;
        memcpy(words + i, record, (left < 8 ? left : 8) * sizeof *record);
    }
}
