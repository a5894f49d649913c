// The elementary functions of the kernels, number by number, for test_elementary.py.
#include "../../hwcli/native/layer_parts.h"

template <class Function> static void each(const float *x, long n, Function function) {
    for (long i = 0; i < n; i += LANES) function(i, AT(x + i));
}

// n is a multiple of 16; slopes are of GELU only.
extern "C" void apply(int which, const float *x, float *y, float *slopes, long n) {
    each(x, n, [&](long i, vec u) {
        vec value = {}, slope = {};
        if (which == 0) value = exponential(u);
        if (which == 1) value = power_of_two(u);
        if (which == 2) value = rough_power_of_two(u);
        if (which == 3) value = rough_reciprocal(u);
        if (which == 4) gelu(u, value, slope);
        if (which == 5) rough_gelu(u, value, slope);
        if (which == 6) value = elu_plus_one(u);
        if (which == 7) value = rough_elu_plus_one(u);
        if (which == 8) value = sum(u);
        if (which == 9) value = largest(u);
        store(y + i, value);
        store(slopes + i, slope);
    });
}

extern "C" int num_lanes() { return LANES; }

// n x n, multiples of 16: the transpose, block by block.
extern "C" void turn(const float *x, float *y, int n) {
    for (int r = 0; r < n; r += LANES)
        for (int c = 0; c < n; c += LANES) {
            vec block[LANES];
            for (int i = 0; i < LANES; i++) block[i] = AT(x + (r + i) * n + c);
            transpose(block);
            for (int i = 0; i < LANES; i++) AT(y + (c + i) * n + r) = block[i];
        }
}

extern "C" void to_bfloat16(const float *x, uint16_t *y, long n) {
    each(x, n, [&](long i, vec u) { store(y + i, u); });
}
