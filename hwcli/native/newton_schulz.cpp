// Newton-Schulz's iteration of Muon: every singular value of a matrix becomes about 1.
//
//     X <- a X + B X   with   B = b A + c A^2   and   A = X X^T
//
// X is (R, C), R <= C: multiples of 16 in float32, of 32 in bfloat16. There A, B and X are rounded as
// torch rounds them, and sums are float32. Threads share out the matrices, so that no number depends
// on how many threads there are.
#include <memory>

#include "gemm_bf16.h"
#include "threads.h"

struct Coefficients {
    float a, b, c;
};

// Memory for one matrix; with 64 bytes behind it, since the transposes read whole vectors.
template <class Number> struct Matrix {
    std::unique_ptr<Number[]> numbers;
    Matrix(int rows, int columns) : numbers(new Number[rows * columns + 64 / sizeof(Number)]) {}
    operator Number *() { return numbers.get(); }
};

// --------------------------------------------------------------------------------------
// In float32

[[maybe_unused]] static void iterate(float *X, int R, int C, long num_steps, Coefficients by) {
    Matrix<float> transposed(C, R), A(R, R), B(R, R), BX(R, C);
    for (long step = 0; step < num_steps; step++) {
        for (int r = 0; r < R; r += LANES)
            for (int c = 0; c < C; c += LANES) {
                vec block[LANES];
                for (int l = 0; l < LANES; l++) block[l] = AT(X + (r + l) * C + c);
                transpose(block);
                for (int l = 0; l < LANES; l++) AT(transposed + (c + l) * R + r) = block[l];
            }
        multiply(R, R, C, A, R, {X, C, 1}, transposed, R);
        multiply(R, R, R, B, R, {A, R, 1}, A, R);
        for (int i = 0; i < R * R; i += LANES) AT(B + i) = by.b * AT(A + i) + by.c * AT(B + i);
        multiply(R, C, R, BX, C, {B, R, 1}, X, C);
        for (int i = 0; i < R * C; i += LANES) AT(X + i) = by.a * AT(X + i) + AT(BX + i);
    }
}

// --------------------------------------------------------------------------------------
// In bfloat16

[[maybe_unused]] static void iterate(bf16 *X, int R, int C, long num_steps, Coefficients by) {
    TileSetup setup;
    Matrix<float> product(R, C);
    Matrix<bf16> A(R, R), B(R, R), right(R, C), x(R, C);
    memcpy(x, X, R * C * sizeof(bf16));
    for (long step = 0; step < num_steps; step++) {
        pair_columns(right, x, C, R, C);
        multiply(R, R, C, product, R, rows_of(x, C), right, R);
        for (int i = 0; i < R * R; i += LANES) store(A + i, AT(product + i));
        pair_rows(right, A, R, R, R, R);
        multiply(R, R, R, product, R, rows_of(A, R), right, R);
        for (int i = 0; i < R * R; i += LANES)
            store(B + i, by.b * load(A + i) + by.c * AT(product + i));
        pair_rows(right, x, C, R, R, C);
        multiply(R, C, R, product, C, rows_of(B, R), right, C);
        for (int i = 0; i < R * C; i += LANES) store(x + i, by.a * load(x + i) + AT(product + i));
    }
    memcpy(X, x, R * C * sizeof(bf16));
}

// Matrices (count, R, C), in place.
extern "C" void newton_schulz(HW2_ELEMENT *x, long count, long R, long C, long num_steps, float a,
                              float b, float c, long threads, Parallel parallel) {
    share_out(count, threads, parallel,
              [&](long i) { iterate(x + i * R * C, R, C, num_steps, {a, b, c}); });
}
