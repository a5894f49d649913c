// Softmax attention over short sequences, forward and backward, one head at a time.
//
// A head of a ViT on small images (49 tokens of width 16) fits the first-level cache: its scores
// are formed, exponentiated and used up where they are and never reach memory. The backward pass
// forms them anew from each row's maximum and sum (Dao et al. 2022, "FlashAttention", algorithm 4).
//
// Compiled for one T (tokens), D (width of a head) and Element (float, or uint16_t: bfloat16);
// all arithmetic is float32.
//
// Layouts: qkv and its gradient (B, T, 3, H, D); y and its gradient (B, T, H, D);
// tops and shares, each row's largest score and one over its sum of exponentials, (B, H, T).
#include "simd.h"

constexpr int TV = vectors(T), TP = TV * LANES;  // a row of scores: vectors, and numbers
constexpr int DV = vectors(D), DP = DV * LANES;  // a token of one head
constexpr int ROWS = 4;                          // queries at a time: their sums fill the registers
constexpr int TR = (T + ROWS - 1) / ROWS * ROWS;

typedef float Tokens[TR][DP];    // behind token T and width D: zeros
typedef float Columns[DP][TP];
typedef float Rows[ROWS][TP];

static void gather(Tokens &out, const Element *from, long stride, float factor) {
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) out[t][d] = factor * load_one(from[t * stride + d]);
}
static void scatter(Element *to, long stride, const Tokens &from, float factor) {
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) store_one(&to[t * stride + d], factor * from[t][d]);
}
static void transpose(Columns &out, const Tokens &x) {
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) out[d][t] = x[t][d];
}

// out[r] = rows[r] . columns, (ROWS, D) x (D, T)
static inline void products(vec (&out)[ROWS][TV], const float (*rows)[DP], const Columns &columns) {
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < TV; c++) out[r][c] = vec{};
    for (int d = 0; d < D; d++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < TV; c++) out[r][c] += rows[r][d] * AT(&columns[d][c * LANES]);
}

// out[r] = sum over t of weights[r][t] x[t], (ROWS, T) x (T, D)
static inline void mix(float (*out)[DP], const Rows &weights, const Tokens &x) {
    for (int c = 0; c < DV; c++) {
        vec even[ROWS] = {}, odd[ROWS] = {};  // twice the sums, since an addition takes its time
        for (int t = 0; t < T; t += 2)
            for (int r = 0; r < ROWS; r++) {
                even[r] += weights[r][t] * AT(&x[t][c * LANES]);
                if (t + 1 < T) odd[r] += weights[r][t + 1] * AT(&x[t + 1][c * LANES]);
            }
        for (int r = 0; r < ROWS; r++) AT(&out[r][c * LANES]) = even[r] + odd[r];
    }
}

// to[t] += sum over r of weights[r][t] x[r], (T, ROWS) x (ROWS, D)
static inline void spread(Tokens &to, const Rows &weights, const float (*x)[DP]) {
    for (int c = 0; c < DV; c++) {
        vec row[ROWS];
        for (int r = 0; r < ROWS; r++) row[r] = AT(&x[r][c * LANES]);
        for (int t = 0; t < T; t++) {
            vec total = AT(&to[t][c * LANES]);
            for (int r = 0; r < ROWS; r++) total += weights[r][t] * row[r];
            AT(&to[t][c * LANES]) = total;
        }
    }
}

extern "C" void attention_forward(const Element *qkv, Element *y, float *tops, float *shares,
                                  long B, long H, float scale) {
    alignas(64) Tokens q = {}, k = {}, v = {}, out;
    alignas(64) Columns k_columns = {};
    alignas(64) Rows weights;
    vec outside = {};  // keeps what is behind token T out of a row's maximum and sum
    for (int t = T; t < TP; t++) outside[t % LANES] = -1e30f;
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++) {
            const Element *head = qkv + b * T * 3 * H * D + h * D;
            gather(q, head, 3 * H * D, scale);
            gather(k, head + H * D, 3 * H * D, 1);
            gather(v, head + 2 * H * D, 3 * H * D, 1);
            transpose(k_columns, k);
            for (int t = 0; t < T; t += ROWS) {
                vec scores[ROWS][TV], share[ROWS];
                products(scores, q + t, k_columns);
                for (int r = 0; r < ROWS; r++) {
                    scores[r][TV - 1] += outside;
                    vec top = scores[r][0], total = {};
                    for (int c = 1; c < TV; c++) top = greater(top, scores[r][c]);
                    top = largest(top);
                    for (int c = 0; c < TV; c++) {
                        vec weight = exponential(scores[r][c] - top);
                        AT(&weights[r][c * LANES]) = weight;
                        total += weight;
                    }
                    share[r] = 1.0f / sum(total);
                    if (t + r < T) {
                        tops[(b * H + h) * T + t + r] = top[0];
                        shares[(b * H + h) * T + t + r] = share[r][0];
                    }
                }
                mix(out + t, weights, v);
                for (int r = 0; r < ROWS; r++)
                    for (int c = 0; c < DV; c++) AT(&out[t + r][c * LANES]) *= share[r];
            }
            scatter(y + b * T * H * D + h * D, H * D, out, 1);
        }
}

// With P the weights and g = dL/dy: dL/dP = g v^T, dL/dS = P (dL/dP - g . y), then the products.
extern "C" void attention_backward(const Element *qkv, const Element *y, const float *tops,
                                   const float *shares, const Element *upstream, Element *gradient,
                                   long B, long H, float scale) {
    alignas(64) Tokens q = {}, k = {}, v = {}, g = {}, out = {}, dq, dk, dv;
    alignas(64) Columns k_columns = {}, v_columns = {};
    alignas(64) Rows weights, slopes;
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++) {
            long place = b * T * 3 * H * D + h * D;
            gather(q, qkv + place, 3 * H * D, scale);
            gather(k, qkv + place + H * D, 3 * H * D, 1);
            gather(v, qkv + place + 2 * H * D, 3 * H * D, 1);
            gather(g, upstream + b * T * H * D + h * D, H * D, 1);
            gather(out, y + b * T * H * D + h * D, H * D, 1);
            transpose(k_columns, k);
            transpose(v_columns, v);
            memset(dk, 0, sizeof dk);
            memset(dv, 0, sizeof dv);
            for (int t = 0; t < T; t += ROWS) {
                vec scores[ROWS][TV], slope[ROWS][TV];
                products(scores, q + t, k_columns);
                products(slope, g + t, v_columns);
                for (int r = 0; r < ROWS; r++) {
                    bool inside = t + r < T;
                    float top = inside ? tops[(b * H + h) * T + t + r] : 0;
                    float share = inside ? shares[(b * H + h) * T + t + r] : 0;
                    vec mean = {};
                    for (int c = 0; c < DV; c++)
                        mean += AT(&g[t + r][c * LANES]) * AT(&out[t + r][c * LANES]);
                    mean = sum(mean);
                    for (int c = 0; c < TV; c++) {
                        vec weight = exponential(scores[r][c] - top) * share;
                        AT(&weights[r][c * LANES]) = weight;
                        AT(&slopes[r][c * LANES]) = weight * (slope[r][c] - mean);
                    }
                }
                mix(dq + t, slopes, k);
                spread(dv, weights, g + t);
                spread(dk, slopes, q + t);
            }
            scatter(gradient + place, 3 * H * D, dq, scale);
            scatter(gradient + place + H * D, 3 * H * D, dk, 1);
            scatter(gradient + place + 2 * H * D, 3 * H * D, dv, 1);
        }
}
