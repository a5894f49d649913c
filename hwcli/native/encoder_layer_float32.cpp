// One encoder layer of a Vision Transformer in float32, forward and backward (layer_parts.h says
// what it computes), a few images at a time, so that what is made of them stays in the cache.
//
// The forward pass keeps what costs more to compute again than to read: queries, keys and values,
// what attention gives, the residual stream behind it, and what enters GELU. Scores, exponentials,
// norms and GELU are computed again (tests/benchmarks/LOG.md has the times of each choice).
//
// Rows are filled up: a head, a token and the MLP's hidden units each to whole vectors, with zeros
// where a sum runs over them. The distance of two rows is an odd number of cache lines, so that a
// column of a matrix does not crowd into a few sets of the cache.
#include "gemm_vectors.h"
#include "layer_parts.h"

constexpr int row(int numbers) { return (round_up(numbers, 16) / 16 | 1) * 16; }
constexpr int DR = row(D), MR = row(M);
constexpr int WP = round_up(W, LANES), I = H * WP, IR = row(I);  // all heads side by side
constexpr int QKV = 3 * I, QR = row(QKV);
constexpr int TP = round_up(T, LANES), TV = TP / LANES;

// Images that are worked on at a time: what is kept of them takes half of a small second-level
// cache.
constexpr int IMAGES = std::max<long>(1, (256 << 10) / (sizeof(float) * T * (QR + IR + DR + MR)));
constexpr int N = IMAGES * T;  // their tokens

// --------------------------------------------------------------------------------------
// What the layer's arrays hold

// The layer's parameters, or their gradients, with rows filled up.
struct Padded {
    float norm1[DR], norm1_bias[DR], qkv[QKV][DR], out[D][IR], out_bias[DR];
    float norm2[DR], norm2_bias[DR], hidden[M][DR], hidden_bias[MR], mlp_out[D][MR];
    float mlp_out_bias[DR];

    // Calls transfer(row here, row there, numbers) for each row, or a head's part of it.
    template <class Transfer> void with(const Parameters &p, Transfer transfer) {
        transfer(norm1, p.norm1, D);
        transfer(norm1_bias, p.norm1_bias, D);
        for (int part = 0; part < 3 * H; part++)  // of each: queries of all heads, keys, values
            for (int i = 0; i < W; i++) transfer(qkv[part * WP + i], p.qkv + (part * W + i) * D, D);
        for (int d = 0; d < D; d++)
            for (int head = 0; head < H; head++)
                transfer(out[d] + head * WP, p.out + (d * H + head) * W, W);
        transfer(out_bias, p.out_bias, D);
        transfer(norm2, p.norm2, D);
        transfer(norm2_bias, p.norm2_bias, D);
        for (int m = 0; m < M; m++) transfer(hidden[m], p.hidden + m * D, D);
        transfer(hidden_bias, p.hidden_bias, M);
        for (int d = 0; d < D; d++) transfer(mlp_out[d], p.mlp_out + d * M, M);
        transfer(mlp_out_bias, p.mlp_out_bias, D);
    }
};

// out[c][r] = factor x[r][c] for ROWS rows and whole vectors of columns; zeros behind the last row.
template <int ROWS>
static void turn(float *out, int out_row, const float *x, int x_row, int columns, float factor) {
    for (int r = 0; r < ROWS; r += LANES)
        for (int c = 0; c < columns; c += LANES) {
            vec block[LANES];
            for (int i = 0; i < LANES; i++)
                block[i] = r + i < ROWS ? factor * AT(x + (r + i) * x_row + c) : vec{};
            transpose(block);
            for (int i = 0; i < LANES; i++) AT(out + (c + i) * out_row + r) = block[i];
        }
}

// Parameters as they are given, whose weights are the right-hand matrices of the backward pass; and
// the transposed weights, which are those of the forward pass.
struct Weights {
    alignas(64) Padded given = {};
    float qkv[round_up(D, LANES)][QR], out[I][DR], hidden[round_up(D, LANES)][MR];
    float mlp_out[round_up(M, LANES)][DR];
    explicit Weights(const Parameters &p) {
        given.with(p, [](float *here, const float *there, int n) { memcpy(here, there, 4 * n); });
        turn<QKV>(qkv[0], QR, given.qkv[0], DR, D, 1);
        turn<D>(out[0], DR, given.out[0], IR, I, 1);
        turn<M>(hidden[0], MR, given.hidden[0], DR, D, 1);
        turn<D>(mlp_out[0], DR, given.mlp_out[0], MR, M, 1);
    }
};

// What is kept of a few images between the passes, token by token.
struct alignas(64) Kept {
    float hidden[N][MR], x2[N][DR], mixed[N][IR], qkv[N][QR];
    // Of each query: its largest score (softmax only), and one over the sum of its weights.
    float top[IMAGES * H][TP], inverse_sum[IMAGES * H][TP];

    // Writes past the caches, where the compiler can: the backward pass comes much later.
    void stream_to(Kept &there) const {
        const float *from = (const float *)this;
        float *to = (float *)&there;
        for (size_t i = 0; i < sizeof(Kept) / sizeof(float); i += LANES) stream(to + i, AT(from + i));
    }
};

// What else a few images need. dhidden is the gradient of hidden, and so on. dx is reused: gradient
// of y, then of x2, then of x.
struct alignas(64) Workspace {
    Kept made;  // in the forward pass
    float x[N][DR], normal[N][DR], mean[N], scale[N], hidden[N][MR], product[N][DR];
    float dx[N][DR], dhidden[N][MR], dmixed[N][IR], dqkv[N][QR];
};
static Workspace &workspace() {
    static thread_local auto made = std::make_unique<Workspace>();
    return *made;
}

// --------------------------------------------------------------------------------------
// Attention of one head: q, k, v and y are its columns in T rows of qkv and mixed.

#if !HW2_LINEAR

// P has keys down and queries across, so that a sum over keys stays within its lane. It holds the
// scores k q^T / sqrt(W) in powers of two, then the weights 2^(score - top); y = inverse_sum P^T v.
static void attend(const float *q, float *y, float *top, float *inverse_sum) {
    const float scale = 1.44269504f / std::sqrt((float)W);
    alignas(64) float columns[WP][TP], P[T][TP];
    const float *k = q + I, *v = k + I;
    turn<T>(columns[0], TP, q, QR, WP, scale);
    multiply(T, TP, W, P[0], TP, {k, QR, 1}, columns[0], TP);
    vec largest[TV], total[TV] = {};
    for (int c = 0; c < TV; c++) largest[c] = AT(P[0] + c * LANES);
    for (int t = 1; t < T; t++)
        for (int c = 0; c < TV; c++) largest[c] = greater(largest[c], AT(P[t] + c * LANES));
    for (int t = 0; t < T; t++)
        for (int c = 0; c < TV; c++) {
            vec weight = power_of_two(AT(P[t] + c * LANES) - largest[c]);
            AT(P[t] + c * LANES) = weight;
            total[c] += weight;
        }
    for (int c = 0; c < TV; c++) {
        AT(top + c * LANES) = largest[c];
        AT(inverse_sum + c * LANES) = 1.0f / total[c];
    }
    multiply(T, WP, T, y, IR, {P[0], 1, TP}, v, QR);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < WP; c += LANES) AT(y + t * IR + c) *= inverse_sum[t];
}

// P holds the scores S, then the probabilities weights x inverse_sum. With g = dL/dy: dP = v g^T,
// dS = P (dP - sum over keys of P dP), dq = dS^T k, dk = dS q, dv = P g.
static void attend_backward(const float *q, const float *, const float *top,
                            const float *inverse_sum, const float *g, float *dq) {
    const float scale = 1 / std::sqrt((float)W);
    alignas(64) float columns[WP][TP], P[T][TP], dP[T][TP];
    auto &dS = dP;  // in the same place
    const float *k = q + I, *v = k + I;
    float *dk = dq + I, *dv = dk + I;
    turn<T>(columns[0], TP, q, QR, WP, 1.44269504f * scale);
    multiply(T, TP, W, P[0], TP, {k, QR, 1}, columns[0], TP);
    turn<T>(columns[0], TP, g, IR, WP, 1);
    multiply(T, TP, W, dP[0], TP, {v, QR, 1}, columns[0], TP);
    vec mean[TV] = {};
    for (int t = 0; t < T; t++)
        for (int c = 0; c < TV; c++) {
            vec probability = power_of_two(AT(P[t] + c * LANES) - AT(top + c * LANES)) *
                              AT(inverse_sum + c * LANES);
            AT(P[t] + c * LANES) = probability;
            mean[c] += probability * AT(dP[t] + c * LANES);
        }
    for (int t = 0; t < T; t++)
        for (int c = 0; c < TV; c++)
            AT(dS[t] + c * LANES) =
                AT(P[t] + c * LANES) * (AT(dP[t] + c * LANES) - mean[c]) * scale;
    multiply(T, WP, T, dq, QR, {dS[0], 1, TP}, k, QR);
    multiply(T, WP, T, dk, QR, {dS[0], TP, 1}, q, QR);
    multiply(T, WP, T, dv, QR, {P[0], TP, 1}, g, IR);
}

#else

// q and k are features already. y = q S / n with S = k^T v, n = q . z and z = sum of k.
static void attend(const float *q, float *y, float *, float *inverse_sum) {
    alignas(64) float S[WP][WP], z[WP] = {};
    const float *k = q + I, *v = k + I;
    multiply(W, WP, T, S[0], WP, {k, 1, QR}, v, QR);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < WP; c += LANES) AT(z + c) += AT(k + t * QR + c);
    multiply(T, WP, W, y, IR, {q, QR, 1}, S[0], WP);
    for (int t = 0; t < T; t++) {
        vec n = {};
        for (int c = 0; c < WP; c += LANES) n += AT(q + t * QR + c) * AT(z + c);
        inverse_sum[t] = 1 / sum(n)[0];
        for (int c = 0; c < WP; c += LANES) AT(y + t * IR + c) *= inverse_sum[t];
    }
}

// With u = g / n and dn = -(u . y): dq = u S^T + dn z, dS = q^T u, dz = sum of dn q,
// dk = v dS^T + dz, dv = k dS. Times the map's slope, dq and dk are gradients of what was mapped.
static void attend_backward(const float *q, const float *y, const float *,
                            const float *inverse_sum, const float *g, float *dq) {
    alignas(64) float S[WP][WP], dS[WP][WP], turned[WP][WP], z[WP] = {}, dz[WP] = {};
    alignas(64) float u[T][WP], dn[T];
    const float *k = q + I, *v = k + I;
    float *dk = dq + I, *dv = dk + I;
    multiply(W, WP, T, S[0], WP, {k, 1, QR}, v, QR);
    for (int t = 0; t < T; t++) {
        vec total = {};
        for (int c = 0; c < WP; c += LANES) {
            vec upstream = AT(g + t * IR + c) * inverse_sum[t];
            AT(u[t] + c) = upstream;
            total += upstream * AT(y + t * IR + c);
            AT(z + c) += AT(k + t * QR + c);
        }
        dn[t] = -sum(total)[0];
        for (int c = 0; c < WP; c += LANES) AT(dz + c) += dn[t] * AT(q + t * QR + c);
    }
    turn<W>(turned[0], WP, S[0], WP, WP, 1);
    multiply(T, WP, W, dq, QR, {u[0], WP, 1}, turned[0], WP);
    multiply(W, WP, T, dS[0], WP, {q, 1, QR}, u[0], WP);
    turn<W>(turned[0], WP, dS[0], WP, WP, 1);
    multiply(T, WP, W, dk, QR, {v, QR, 1}, turned[0], WP);
    multiply(T, WP, W, dv, QR, {k, QR, 1}, dS[0], WP);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < WP; c += LANES) {
            AT(dq + t * QR + c) = elu_slope(AT(q + t * QR + c)) *
                                  (AT(dq + t * QR + c) + dn[t] * AT(z + c));
            AT(dk + t * QR + c) = elu_slope(AT(k + t * QR + c)) *
                                  (AT(dk + t * QR + c) + AT(dz + c));
        }
}

#endif

// --------------------------------------------------------------------------------------
// The layer

// From the tokens in w.x computes y, (n, D).
static void forward(Workspace &w, const Weights &weights, int images, float epsilon, float *y) {
    Kept &kept = w.made;
    const Padded &p = weights.given;
    int n = images * T;
    for (int t = 0; t < n; t++)
        normalise(w.x[t], p.norm1, p.norm1_bias, epsilon, w.normal[t], w.mean[t], w.scale[t]);
    multiply(n, QKV, D, kept.qkv[0], QR, {w.normal[0], DR, 1}, weights.qkv[0], QR);
    if (LINEAR)
        for (int t = 0; t < n; t++)
            for (int part = 0; part < 2 * H; part++)  // queries and keys
                for (int c = 0; c < WP; c += LANES) {
                    float *x = kept.qkv[t] + part * WP + c;
                    AT(x) = inside<W>(c, elu_plus_one(AT(x)));
                }
    for (int image = 0; image < images; image++)
        for (int head = 0; head < H; head++)
            attend(kept.qkv[image * T] + head * WP, kept.mixed[image * T] + head * WP,
                   kept.top[image * H + head], kept.inverse_sum[image * H + head]);
    for (int t = 0; t < n; t++)
        for (int c = 0; c < D; c += LANES)
            AT(kept.x2[t] + c) = AT(w.x[t] + c) + AT(p.out_bias + c);
    multiply(n, D, I, kept.x2[0], DR, {kept.mixed[0], IR, 1}, weights.out[0], DR, true);
    for (int t = 0; t < n; t++)
        normalise(kept.x2[t], p.norm2, p.norm2_bias, epsilon, w.normal[t], w.mean[t],
                  w.scale[t]);
    multiply(n, M, D, kept.hidden[0], MR, {w.normal[0], DR, 1}, weights.hidden[0], MR);
    for (int t = 0; t < n; t++)
        for (int c = 0; c < M; c += LANES) {
            vec value, slope, u = AT(kept.hidden[t] + c) + AT(p.hidden_bias + c);
            AT(kept.hidden[t] + c) = u;
            gelu(u, value, slope);
            AT(w.hidden[t] + c) = value;
        }
    for (int t = 0; t < n; t++)
        for (int c = 0; c < D; c += LANES)
            AT(w.x[t] + c) = AT(kept.x2[t] + c) + AT(p.mlp_out_bias + c);
    multiply(n, D, M, w.x[0], DR, {w.hidden[0], MR, 1}, weights.mlp_out[0], DR, true);
    for (int t = 0; t < n; t++) memcpy(y + t * D, w.x[t], sizeof(float) * D);
}

// w.dx holds the gradient of y and becomes that of x.
static void backward(Workspace &w, const Kept &kept, const Weights &weights, Padded &d, int images,
                     float epsilon) {
    const Padded &p = weights.given;
    int n = images * T;
    float *product = w.product[0];
    for (int t = 0; t < n; t++)
        for (int c = 0; c < D; c += LANES) AT(d.mlp_out_bias + c) += AT(w.dx[t] + c);
    multiply(n, M, D, w.dhidden[0], MR, {w.dx[0], DR, 1}, p.mlp_out[0], MR);
    for (int t = 0; t < n; t++) {
        // Attention reads these head by head, a pattern that no processor fetches ahead by itself.
        for (int c = 0; c < QR; c += 16) __builtin_prefetch(kept.qkv[t] + c);
        for (int c = 0; c < IR; c += 16) __builtin_prefetch(kept.mixed[t] + c);
        for (int c = 0; c < M; c += LANES) {
            vec value, slope;
            gelu(AT(kept.hidden[t] + c), value, slope);
            AT(w.hidden[t] + c) = value;
            vec g = AT(w.dhidden[t] + c) * slope;
            AT(w.dhidden[t] + c) = g;
            AT(d.hidden_bias + c) += g;
        }
    }
    multiply(D, M, n, d.mlp_out[0], MR, {w.dx[0], 1, DR}, w.hidden[0], MR, true);
    for (int t = 0; t < n; t++)
        normalise(kept.x2[t], p.norm2, p.norm2_bias, epsilon, w.normal[t], w.mean[t],
                  w.scale[t]);
    multiply(M, D, n, d.hidden[0], DR, {w.dhidden[0], 1, MR}, w.normal[0], DR, true);
    multiply(n, D, M, product, DR, {w.dhidden[0], MR, 1}, p.hidden[0], DR);
    for (int t = 0; t < n; t++) {
        normalise_backward(product + t * DR, kept.x2[t], p.norm2, w.mean[t], w.scale[t],
                           w.dx[t], d.norm2, d.norm2_bias);
        for (int c = 0; c < D; c += LANES) AT(d.out_bias + c) += AT(w.dx[t] + c);
    }
    multiply(D, I, n, d.out[0], IR, {w.dx[0], 1, DR}, kept.mixed[0], IR, true);
    multiply(n, I, D, w.dmixed[0], IR, {w.dx[0], DR, 1}, p.out[0], IR);
    for (int image = 0; image < images; image++)
        for (int head = 0; head < H; head++)
            attend_backward(kept.qkv[image * T] + head * WP,
                            kept.mixed[image * T] + head * WP,
                            kept.top[image * H + head],
                            kept.inverse_sum[image * H + head],
                            w.dmixed[image * T] + head * WP, w.dqkv[image * T] + head * WP);
    for (int t = 0; t < n; t++)
        normalise(w.x[t], p.norm1, p.norm1_bias, epsilon, w.normal[t], w.mean[t], w.scale[t]);
    multiply(QKV, D, n, d.qkv[0], DR, {w.dqkv[0], 1, QR}, w.normal[0], DR, true);
    multiply(n, D, QKV, product, DR, {w.dqkv[0], QR, 1}, p.qkv[0], DR);
    for (int t = 0; t < n; t++)
        normalise_backward(product + t * DR, w.x[t], p.norm1, w.mean[t], w.scale[t], w.dx[t],
                           d.norm1, d.norm1_bias);
}

// --------------------------------------------------------------------------------------

static void read_images(float (*rows)[DR], const float *tensor, long from, long to) {
    for (long t = 0; t < (to - from) * T; t++)
        memcpy(rows[t], tensor + (from * T + t) * D, sizeof(float) * D);
}

extern "C" long layer_kept_bytes(long B) { return (B + IMAGES - 1) / IMAGES * sizeof(Kept); }

// kept: memory for what the backward pass needs; null where none will follow.
extern "C" void layer_forward(const float *x, const Parameters *p, float *y, void *kept,
                              float epsilon, long B, long parts, long threads,
                              Parallel parallel) {
    auto weights = std::make_unique<Weights>(*p);
    Batch(B, IMAGES, parts, threads, parallel).each([&](long from, long to) {
        Workspace &w = workspace();
        read_images(w.x, x, from, to);
        forward(w, *weights, to - from, epsilon, y + from * T * D);
        if (kept) w.made.stream_to(((Kept *)kept)[from / IMAGES]);
    });
}

// gradients: where those of the parameters go.
extern "C" void layer_backward(const float *x, const Parameters *p, const float *dy, float *dx,
                               const Parameters *gradients, const void *kept, float epsilon,
                               long B, long parts, long threads, Parallel parallel) {
    auto weights = std::make_unique<Weights>(*p);
    Batch batch(B, IMAGES, parts, threads, parallel);
    auto sums = batch.sum<Padded>([&](long from, long to, Padded &d) {
        Workspace &w = workspace();
        read_images(w.x, x, from, to);
        read_images(w.dx, dy, from, to);
        backward(w, ((const Kept *)kept)[from / IMAGES], *weights, d, to - from, epsilon);
        for (long t = 0; t < (to - from) * T; t++)
            memcpy(dx + (from * T + t) * D, w.dx[t], sizeof(float) * D);
    });
    sums->with(*gradients, [](const float *here, float *there, int n) {
        memcpy(there, here, sizeof(float) * n);
    });
}
