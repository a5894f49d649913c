// Newton-Schulz's iteration of Muon: every singular value of a matrix becomes about 1.
//
// X <- a X + (b A + c A^2) X with A = X X^T; each result is rounded to bfloat16, as by torch.
//
// Compiled for R rows and C columns, multiples of 32, R <= C.
#include <memory>

#include "gemm_bf16.h"

struct alignas(64) Matrices {
    float product[R * C];
    bf16 A[R * R], B[R * R], right[R * C];
};

// Matrices (count, R, C), in place.
extern "C" void orthogonalize(bf16 *x, long count, long num_steps, float a, float b, float c) {
    TileSetup setup;
    auto m = std::make_unique<Matrices>();
    for (bf16 *X = x; X < x + count * R * C; X += R * C)
        for (long step = 0; step < num_steps; step++) {
            pair_columns(m->right, X, C, R, C);
            multiply(R, R, C, m->product, R, X, C, m->right, R);
            for (int i = 0; i < R * R; i += LANES) store(m->A + i, AT(m->product + i));
            pair_rows(m->right, m->A, R, R, R, R);
            multiply(R, R, R, m->product, R, m->A, R, m->right, R);
            for (int i = 0; i < R * R; i += LANES)
                store(m->B + i, b * load(m->A + i) + c * AT(m->product + i));
            pair_rows(m->right, X, C, R, R, C);
            multiply(R, C, R, m->product, C, m->B, R, m->right, C);
            for (int i = 0; i < R * C; i += LANES)
                store(X + i, a * load(X + i) + AT(m->product + i));
        }
}
