// Products of bfloat16 matrices, summed in float32: by the processor's matrix unit (AMX), 16 x 16
// results at a time, or by vectors (gemm_vectors.h).
//
// Both want the right-hand matrix in pairs: (K, N) as (K / 2, N, 2), so that what two neighbouring
// rows hold in a column lies side by side. `row`, `c_row` and so on are distances of rows, in numbers.
#pragma once
#include "gemm_vectors.h"

typedef uint16_t bf16;

// A left-hand matrix of bfloat16, in words: each holds two numbers that are neighbours along the sum.
typedef Strided<word> Words;
inline Words rows_of(const bf16 *x, int row) { return {(const word *)x, row / 2, 1}; }

#if defined(__AMX_BF16__) && !defined(NO_TILES)
#include <sys/syscall.h>
#include <unistd.h>

constexpr bool TILES = true;
constexpr int TILE = 16;

// Asks the system for the tile registers; 0 where it does not give them.
extern "C" int tiles_are_given() {
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// GCC's intrinsics do not tell the compiler that they read memory: it must not hold stores back.
inline void finish_stores() { asm volatile("" ::: "memory"); }

// Sets the tile registers up for these products, and restores them when it is destroyed.
struct TileSetup {
    struct alignas(64) Shape {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } before = {};
    TileSetup() {
        Shape shape = {};
        shape.palette = 1;
        for (int i = 0; i < 8; i++) {
            shape.row_bytes[i] = 64;
            shape.rows[i] = TILE;
        }
        _tile_storeconfig(&before);
        finish_stores();
        _tile_loadconfig(&shape);
    }
    ~TileSetup() {
        finish_stores();
        if (before.palette)
            _tile_loadconfig(&before);
        else
            _tile_release();
    }
};

// c = a b or c + a b for MT x NT tiles. Tiles 0 to 3 hold sums, 4 and 5 a's, 6 and 7 b's.
template <int MT, int NT>
inline void multiply_tiles(float *c, int c_row, const bf16 *a, int a_row, const bf16 *b, int b_row,
                           int K, bool add) {
    float *c1 = c + TILE * c_row;
    finish_stores();
    if (add) {
        _tile_loadd(0, c, c_row * 4);
        if (NT == 2) _tile_loadd(1, c + TILE, c_row * 4);
        if (MT == 2) _tile_loadd(2, c1, c_row * 4);
        if (MT == 2 && NT == 2) _tile_loadd(3, c1 + TILE, c_row * 4);
    } else {
        _tile_zero(0);
        if (NT == 2) _tile_zero(1);
        if (MT == 2) _tile_zero(2);
        if (MT == 2 && NT == 2) _tile_zero(3);
    }
    for (int k = 0; k < K; k += 2 * TILE) {
        _tile_loadd(4, a + k, a_row * 2);
        _tile_loadd(6, b + k * b_row, b_row * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (NT == 2) {
            _tile_loadd(7, b + k * b_row + 2 * TILE, b_row * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (MT == 2) {
            _tile_loadd(5, a + TILE * a_row + k, a_row * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (NT == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, c_row * 4);
    if (NT == 2) _tile_stored(1, c + TILE, c_row * 4);
    if (MT == 2) _tile_stored(2, c1, c_row * 4);
    if (MT == 2 && NT == 2) _tile_stored(3, c1 + TILE, c_row * 4);
    finish_stores();
}

// Layers fill up the rows of a product to multiples of ROW_UNIT, and what it sums over to multiples of
// INNER_UNIT. Columns are multiples of 16.
constexpr int ROW_UNIT = 2 * TILE, INNER_UNIT = 2 * TILE;

// c = a b, or c + a b: (rows, inner) x (inner, columns); rows are multiples of 16. The words of a row
// of a lie side by side, as `rows_of` and `turned` give them.
inline void multiply(int rows, int columns, int inner, float *c, int c_row, Words a, const bf16 *b,
                     int b_row, bool add = false) {
    const int a_row = 2 * a.row;
    for (int m = 0; m < rows; m += 2 * TILE)
        for (int n = 0; n < columns; n += 2 * TILE) {
            float *to = c + m * c_row + n;
            const bf16 *left = (const bf16 *)a.data + m * a_row, *right = b + 2 * n;
            bool two_rows = m + TILE < rows, two_columns = n + TILE < columns;
            if (two_rows && two_columns)
                multiply_tiles<2, 2>(to, c_row, left, a_row, right, b_row, inner, add);
            else if (two_rows)
                multiply_tiles<2, 1>(to, c_row, left, a_row, right, b_row, inner, add);
            else if (two_columns)
                multiply_tiles<1, 2>(to, c_row, left, a_row, right, b_row, inner, add);
            else
                multiply_tiles<1, 1>(to, c_row, left, a_row, right, b_row, inner, add);
        }
}

#else

constexpr bool TILES = false;
constexpr int ROW_UNIT = 2, INNER_UNIT = 2;

extern "C" int tiles_are_given() { return 1; }
struct TileSetup {
    TileSetup() {}
};

inline void multiply(int rows, int columns, int inner, float *c, int c_row, Words a, const bf16 *b,
                     int b_row, bool add = false) {
    multiply_vectors(rows, columns, inner / 2, c, c_row, a, (const word *)b, b_row, add);
}

#endif

// The first `rows` rows of x (rows, columns) in pairs; zeros from there to `inner` rows.
inline void pair_rows(bf16 *out, const bf16 *x, int row, int rows, int inner, int columns) {
    for (int k = 0; k < inner; k += 2)
        for (int n = 0; n < columns; n += LANES) {
            bits pair = {};
            if (k < rows) pair = widen(*(const halves *)(x + k * row + n));
            if (k + 1 < rows) pair |= widen(*(const halves *)(x + (k + 1) * row + n)) << 16;
            *(loose_bits *)(out + k * columns + 2 * n) = pair;
        }
}

// The transpose of a matrix in pairs (inner, columns): (columns, inner), as a left-hand matrix.
inline void transpose_pairs(bf16 *out, const bf16 *paired, int inner, int columns) {
    for (int k = 0; k < inner; k += 2 * LANES)
        for (int n = 0; n < columns; n += LANES) {
            vec x[LANES];
            for (int i = 0; i < LANES; i++)
                x[i] = (vec)*(const loose_bits *)(paired + (k + 2 * i) * columns + 2 * n);
            transpose(x);
            for (int i = 0; i < LANES; i++) *(loose_bits *)(out + (n + i) * inner + k) = (bits)x[i];
        }
}

// The transpose of x (columns, inner) in pairs, with zeros up to a multiple of INNER_UNIT rows. It
// reads each row of x up to a multiple of 32 numbers, so there must be 16 more behind the last row.
inline void pair_columns(bf16 *out, const bf16 *x, int row, int columns, int inner) {
    const int padded = round_up(inner, INNER_UNIT);
    for (int k = 0; k < padded; k += 2 * LANES)
        for (int n = 0; n < columns; n += LANES) {
            vec word[LANES];
            for (int i = 0; i < LANES; i++)
                word[i] = k < inner ? (vec)*(const loose_bits *)(x + (n + i) * row + k) : vec{};
            transpose(word);
            for (int i = 0; i < LANES && k + 2 * i < padded; i++)
                *(loose_bits *)(out + (k + 2 * i) * columns + 2 * n) =
                    k + 2 * i < inner ? (bits)word[i] : bits{};
        }
}

// The transpose of x (rows, columns) as a left-hand matrix (columns, inner), with zeros behind `rows`.
// `out` and `scratch` have room for inner * columns numbers; inner is a multiple of INNER_UNIT.
inline Words turned(bf16 *out, bf16 *scratch, const bf16 *x, int row, int rows, int inner,
                    int columns) {
    if (!TILES) {
        pair_rows(out, x, row, rows, inner, columns);
        return {(const word *)out, 1, columns};
    }
    pair_rows(scratch, x, row, rows, inner, columns);
    transpose_pairs(out, scratch, inner, columns);
    return rows_of(out, inner);
}
