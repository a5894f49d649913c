// Newton-Schulz's iteration of Muon: every singular value of a matrix becomes about 1.
//
//     X <- a X + (b A + c A^2) X   with   A = X X^T
//
// Compiled for one number of HW2_ROWS and HW2_COLUMNS, rows <= columns, multiples of 16, and for
// one HW2_ELEMENT: float, or uint16_t, which is bfloat16: then A, B = b A + c A^2 and X are rounded
// to bfloat16 as torch rounds them, and sums are kept in float32. Threads share out the matrices,
// so that no number depends on how many threads there are.
#include <algorithm>
#include <memory>

#include "simd.h"
#include "threads.h"

constexpr int R = HW2_ROWS, C = HW2_COLUMNS;
typedef HW2_ELEMENT Element;
constexpr bool IS_FLOAT = sizeof(Element) == sizeof(float);

static_assert(R % 16 == 0 && C % 16 == 0 && R <= C, "rows <= columns, multiples of 16");

// What a bfloat16 keeps of x, or x itself.
static inline vec rounded(vec x) {
    if (IS_FLOAT) return x;
    alignas(64) uint16_t halves[LANES];
    store(halves, x);
    return load(halves);
}

// Sums held in registers: 12 of 16 with AVX2, 24 of 32 elsewhere.
constexpr int TILE_ROWS = LANES == 8 ? 6 : 12, TILE_VECTORS = 2;

// use(r, n, sums) for each vector of a b: a is (M, K), b (K, N), rows lie side by side.
template <int M, int N, int K, class Use>
static void multiply(const float *a, const float *b, Use use) {
    constexpr int WIDTH = TILE_VECTORS * LANES;
    for (int n = 0; n < N; n += WIDTH)
        for (int m = 0; m < M; m += TILE_ROWS) {
            // The last tile starts earlier where rows are no multiple of it, and computes some twice.
            int from = std::max(std::min(m, M - TILE_ROWS), 0);
            int left = std::max(std::min(n, N - WIDTH), 0);
            constexpr int ROWS = std::min(TILE_ROWS, M), VECTORS = std::min(WIDTH, N) / LANES;
            vec sums[ROWS][VECTORS] = {};
            for (int k = 0; k < K; k++) {
                vec right[VECTORS];
                for (int v = 0; v < VECTORS; v++) right[v] = AT(b + k * N + left + v * LANES);
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < VECTORS; v++) sums[r][v] += a[(from + r) * K + k] * right[v];
            }
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS; v++) use(from + r, left + v * LANES, sums[r][v]);
        }
}

struct alignas(64) Workspace {
    float X[R * C], next[R * C], transposed[C * R], A[R * R], B[R * R];
};

static void take_step(Workspace &w, float a, float b, float c) {
    for (int r = 0; r < R; r += LANES)
        for (int i = 0; i < C; i += LANES) {
            vec block[LANES];
            for (int l = 0; l < LANES; l++) block[l] = AT(w.X + (r + l) * C + i);
            transpose(block);
            for (int l = 0; l < LANES; l++) AT(w.transposed + (i + l) * R + r) = block[l];
        }
    multiply<R, R, C>(w.X, w.transposed,
                      [&](int r, int n, vec sums) { AT(w.A + r * R + n) = rounded(sums); });
    multiply<R, R, R>(w.A, w.A, [&](int r, int n, vec sums) {
        AT(w.B + r * R + n) = rounded(b * AT(w.A + r * R + n) + c * sums);
    });
    multiply<R, C, R>(w.B, w.X, [&](int r, int n, vec sums) {
        AT(w.next + r * C + n) = rounded(a * AT(w.X + r * C + n) + sums);
    });
    std::swap(w.X, w.next);
}

// Matrices (count, R, C), in place.
extern "C" void newton_schulz(Element *x, long count, long num_steps, float a, float b, float c,
                              long threads, Parallel parallel) {
    share_out(count, threads, parallel, [&](long i) {
        auto w = std::make_unique<Workspace>();
        Element *X = x + i * R * C;
        for (int j = 0; j < R * C; j += LANES) AT(w->X + j) = load(X + j);
        for (long step = 0; step < num_steps; step++) take_step(*w, a, b, c);
        for (int j = 0; j < R * C; j += LANES) store(X + j, AT(w->X + j));
    });
}
