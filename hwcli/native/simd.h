// Vectors of float32 as wide as the processor's registers: 16 lanes with AVX-512, 8 with AVX2, 4 with
// NEON or SSE. GCC 9 and newer and Clang 14 and newer read these extensions. The file must not be
// compiled with -ffast-math, which undoes the rounding to whole numbers in the exponentials.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <xmmintrin.h>  // the whole of immintrin.h takes a second to read
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t loose_bits __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

constexpr int vectors(int n) { return (n + LANES - 1) / LANES; }
constexpr int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// A vector at a place in memory. A macro: of a reference that a function returns, Clang believes
// that it is aligned like a whole vector, whatever its type says.
#define AT(place) (*(loose_vec *)(place))

// --------------------------------------------------------------------------------------
// From and to memory

inline bits widen(halves x) {
#ifdef __AVX512F__
    return (bits)_mm512_cvtepu16_epi32((__m256i)x);  // GCC 12 would convert two halves
#else
    return __builtin_convertvector(x, bits);
#endif
}

// float32, or bfloat16, which is its upper half. `store` rounds to the nearest, ties to even; NaN
// stays NaN.
inline vec load(const float *p) { return AT(p); }
inline vec load(const uint16_t *p) {
    return (vec)(widen(*(const halves *)p) << 16);
}
inline void store(float *p, vec x) { AT(p) = x; }
inline void store(uint16_t *p, vec x) {
#ifdef __AVX512BF16__
    *(halves *)p = (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    bits b = (bits)x;
    bits rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    rounded = x == x ? rounded : (rounded & 0) + 0x7fc0;
    *(halves *)p = __builtin_convertvector(rounded, halves);
#endif
}
// Stores past the caches, so that what is not read soon displaces nothing there. p is a multiple of
// 16 bytes.
inline void stream(float *p, vec x) {
#ifdef __SSE2__
    __m128 quarters[LANES / 4];
    memcpy(quarters, &x, sizeof x);
    for (int i = 0; i < LANES / 4; i++) _mm_stream_ps(p + 4 * i, quarters[i]);
#else
    AT(p) = x;
#endif
}
inline float load_one(float x) { return x; }
inline float load_one(uint16_t x) {
    uint32_t b = (uint32_t)x << 16;
    float y;
    memcpy(&y, &b, sizeof y);
    return y;
}
inline void store_one(float *p, float x) { *p = x; }
inline void store_one(uint16_t *p, float x) {
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    *p = x != x ? 0x7fc0 : (b + 0x7fff + ((b >> 16) & 1)) >> 16;
}

// Rounds to bfloat16: each lane of the result holds x's number in its lower half and y's in its upper.
inline bits pair(vec x, vec y) {
#ifdef __AVX512BF16__
    halves a = (halves)_mm512_cvtneps_pbh((__m512)x), b = (halves)_mm512_cvtneps_pbh((__m512)y);
#else
    halves a, b;
    store((uint16_t *)&a, x);
    store((uint16_t *)&b, y);
#endif
    return widen(a) | widen(b) << 16;
}

// --------------------------------------------------------------------------------------
// Across lanes

// SHUFFLE(x, y, number): lane i of the result is lane number_i of x followed by y. `number` is an
// expression over a parameter pack.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(x, y, number) __builtin_shufflevector(x, y, (number)...)
#else
#define SHUFFLE(x, y, number) __builtin_shuffle(x, y, bits{(uint32_t)(number)...})
#endif
typedef std::make_integer_sequence<int, LANES> LaneNumbers;

// Blocks of DISTANCE lanes change places with their neighbours.
template <int DISTANCE, int... I>
inline vec swap_blocks(vec x, std::integer_sequence<int, I...>) {
    return SHUFFLE(x, x, I ^ DISTANCE);
}

// Every lane becomes the sum, or the largest, of all: halves are swapped, then quarters, and so on.
template <int DISTANCE = LANES / 2> inline vec sum(vec x) {
    x += swap_blocks<DISTANCE>(x, LaneNumbers());
    if constexpr (DISTANCE > 1) x = sum<DISTANCE / 2>(x);
    return x;
}
inline vec greater(vec x, vec y) { return x > y ? x : y; }
template <int DISTANCE = LANES / 2> inline vec largest(vec x) {
    x = greater(x, swap_blocks<DISTANCE>(x, LaneNumbers()));
    if constexpr (DISTANCE > 1) x = largest<DISTANCE / 2>(x);
    return x;
}

// In two rows of blocks of DISTANCE lanes, each upper right block changes places with the lower
// left one.
template <int DISTANCE, int... I>
inline void exchange(vec &upper, vec &lower, std::integer_sequence<int, I...>) {
    vec a = upper, b = lower;
    upper = SHUFFLE(a, b, I & DISTANCE ? LANES + I - DISTANCE : I);
    lower = SHUFFLE(a, b, I & DISTANCE ? LANES + I : I + DISTANCE);
}

// Rows become columns: LANES x LANES numbers, by blocks of half the side, then a quarter, and so on.
template <int DISTANCE = LANES / 2> inline void transpose(vec (&x)[LANES]) {
    for (int i = 0; i < LANES; i++)
        if (!(i & DISTANCE)) exchange<DISTANCE>(x[i], x[i + DISTANCE], LaneNumbers());
    if constexpr (DISTANCE > 1) transpose<DISTANCE / 2>(x);
}

// --------------------------------------------------------------------------------------
// Elementary functions. tests/native/test_elementary.py holds them to the errors that are stated.

// e^x for x <= 88, relative error 2e-7: 2^n times a polynomial in the rest of x (Cephes' expf). Below
// -80 it stays e^-80: products with smaller numbers would be subnormal, and these take a processor a
// hundred times as long.
inline vec exponential(vec x) {
    x = x < -80.0f ? vec{} - 80.0f : x;  // NaN stays NaN
    vec n = x * 1.44269504f + 12582912.0f;  // its low bits hold the nearest whole number
    bits power = ((bits)n + 127) << 23;
    n -= 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (vec)power;
}

// 2^x for x <= 127, 2^-100 below -100, relative error 3e-7: a polynomial in x minus the nearest whole
// number, which is added to the exponent.
inline vec power_of_two(vec x) {
    x = x < -100.0f ? vec{} - 100.0f : x;  // NaN stays NaN
    vec n = x + 12582912.0f;  // its low bits hold the nearest whole number
    bits power = (bits)n << 23;
    vec r = x - (n - 12582912.0f);
    vec p = r * 1.32764725e-3f + 9.67554096e-3f;
    p = p * r + 5.55071309e-2f;
    p = p * r + 2.40221202e-1f;
    p = p * r + 6.93146944e-1f;
    p = p * r + 1.00000012f;
    return (vec)((bits)p + power);
}

// For what is rounded to bfloat16 afterwards, whose own relative error is 2e-3: 2^x for x <= 127,
// 2^-100 below -100, relative error 8e-5; and 1 / x, relative error 6e-5.
inline vec rough_power_of_two(vec x) {
    x = x < -100.0f ? vec{} - 100.0f : x;  // NaN stays NaN
    vec n = x + 12582912.0f;  // its low bits hold the nearest whole number
    bits power = (bits)n << 23;
    vec r = x - (n - 12582912.0f);
    vec p = r * 0.05517167f + 0.24261115f;
    p = p * r + 0.69326099f;
    p = p * r + 0.99992807f;
    return (vec)((bits)p + power);
}
inline vec rough_reciprocal(vec x) {
#ifdef __AVX512F__
    return (vec)_mm512_rcp14_ps((__m512)x);
#else
    return 1.0f / x;
#endif
}
