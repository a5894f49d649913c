// One encoder layer of a Vision Transformer in bfloat16, forward and backward (layer_parts.h says what
// it computes), a few images at a time.
//
// What a few images need between x and y fits the second-level cache. With a matrix unit it never
// reaches memory: the backward pass gets x alone and computes the rest again (Chen et al. 2016,
// "Training Deep Nets with Sublinear Memory Cost"). By vectors, a product takes longer than reading
// its result from memory: there the forward pass keeps these results. Numbers are the same either way.
//
// Products are of bfloat16 and summed in float32; the residual stream, norms, softmax and GELU are
// float32. D and M are multiples of 32, W of 16.
//
// A matrix unit needs rows and sums filled up to whole tiles, vectors do not: ROW_UNIT and INNER_UNIT
// of gemm_bf16.h say how far.
#include "gemm_bf16.h"
#include "layer_parts.h"

// Steps that treat each token alone work on strips of at most 32 tokens. Returns the height at which
// the strips are filled most evenly.
constexpr int strip_height(int tokens) {
    int strips = (tokens + 31) / 32;
    return round_up((tokens + strips - 1) / strips, ROW_UNIT);
}
constexpr int filled_up(int tokens) { return round_up(tokens, strip_height(tokens)); }

// Returns how many images are worked on at a time: of the numbers that fit the cache, the one that
// leaves the smallest part of the strips empty; the largest if there are several.
constexpr int images_at_a_time() {
    int best = 1;
    for (int n = 2; n <= 384 / D; n++)
        if (filled_up(n * T) * best <= filled_up(best * T) * n) best = n;
    return best;
}

constexpr int IMAGES = images_at_a_time();
constexpr int N = IMAGES * T;  // their tokens
constexpr int STRIP = strip_height(N), NP = filled_up(N);
constexpr int TP = round_up(T, 32), TV = TP / LANES;
constexpr int ROWS = NP + TP;  // a head's padded rows may reach behind NP
// A head's tokens, filled up as rows of a product (TR) and as what a product sums over (TI); NI is
// the latter for all tokens.
constexpr int TR = round_up(T, ROW_UNIT), TI = round_up(T, INNER_UNIT);
constexpr int NI = round_up(NP, INNER_UNIT);
constexpr int WP = round_up(W, INNER_UNIT);
constexpr int I = H * W, IP = round_up(I, INNER_UNIT);  // all heads side by side
constexpr int QKV = 3 * I, QP = round_up(QKV, INNER_UNIT);
static_assert(WP <= TP, "places for scores, TP x TP, also hold a head's keys and values");

// A weight as right-hand matrices: `forward` takes inputs to outputs, `backward` takes the outputs'
// gradients to the inputs'.
template <int OUTPUTS, int INPUTS> struct Packed {
    alignas(64) bf16 forward[round_up(INPUTS, INNER_UNIT) * OUTPUTS];
    alignas(64) bf16 backward[round_up(OUTPUTS, INNER_UNIT) * INPUTS];
    void pack(const float *weight) {
        alignas(64) static thread_local bf16 rounded[OUTPUTS * INPUTS + 32];
        for (int i = 0; i < OUTPUTS * INPUTS; i += LANES) store(rounded + i, AT(weight + i));
        pair_columns(forward, rounded, INPUTS, OUTPUTS, INPUTS);
        pair_rows(backward, rounded, INPUTS, OUTPUTS, round_up(OUTPUTS, INNER_UNIT), INPUTS);
    }
};

struct Weights {
    Packed<QKV, D> qkv;
    Packed<D, I> out;
    Packed<M, D> hidden;
    Packed<D, M> mlp_out;
    explicit Weights(const Parameters &p) {
        qkv.pack(p.qkv);
        out.pack(p.out);
        hidden.pack(p.hidden);
        mlp_out.pack(p.mlp_out);
    }
};

// Gradients of the layer's parameters.
struct alignas(64) Sums {
    float norm1[D], norm1_bias[D], qkv[QKV * D], out[D * I], out_bias[D];
    float norm2[D], norm2_bias[D], hidden[M * D], hidden_bias[M], mlp_out[D * M], mlp_out_bias[D];

    void copy_to(const Parameters &p) const {
        auto copy = [](const auto &here, float *there) { memcpy(there, here, sizeof here); };
        copy(norm1, p.norm1), copy(norm1_bias, p.norm1_bias), copy(qkv, p.qkv), copy(out, p.out);
        copy(out_bias, p.out_bias), copy(norm2, p.norm2), copy(norm2_bias, p.norm2_bias);
        copy(hidden, p.hidden), copy(hidden_bias, p.hidden_bias);
        copy(mlp_out, p.mlp_out), copy(mlp_out_bias, p.mlp_out_bias);
    }
};

// What a few images need, token by token, in the order in which it is computed. Padding is zero;
// where it is multiplied with zeros only, it may be any finite number.
struct alignas(64) Workspace {
    float x[NP][D], mean1[NP], scale1[NP];
    bf16 h1[NP][D], qkv[ROWS][QP];               // norm1(x); under linear attention, features
    // Of each query: its largest score, in powers of two, and one over the sum of its weights.
    float top[IMAGES * H][TP], inverse_sum[IMAGES * H][TP];
    bits weights[IMAGES * H][TP / 2][TV];        // softmax: pairs of keys down, queries across
    bf16 S[IMAGES * H][W + 1][W];                // linear: sum of k v^T, and a row to read behind
    float z[IMAGES * H][W];                      // linear: sum of k
    bf16 mixed[ROWS][IP];                        // what the heads give, side by side
    float x2[NP][D], mean2[NP], scale2[NP];
    bf16 h2[NP][D], hidden[NP][M], slope[NP][M];  // norm2(x2); GELU and its slope
    // dhidden is the gradient of hidden, and so on. dx is reused: gradient of y, then of x2,
    // then of x.
    float dx[NP][D];
    bf16 dy[NP][D], dhidden[NP][M], dx2[NP][D], dmixed[ROWS][IP], dqkv[ROWS][QP];
    // Results of a product before they are rounded, and operands made for one.
    float strip[STRIP * std::max({QKV, M, D})];
    bf16 left[NI * std::max({QP, M, D})], right[NI * std::max({QP, M, D})];
};

constexpr bool KEEPS = !TILES;
constexpr long whole_lines(long bytes) { return (bytes + 63) / 64 * 64; }

// Calls transfer(array, bytes) for each array that the forward pass keeps for the backward pass.
template <class Transfer> static void with_kept(Workspace &w, Transfer transfer) {
    if (!KEEPS) return;
    transfer(w.qkv, whole_lines(sizeof(bf16) * N * QP));
    transfer(w.mixed, whole_lines(sizeof(bf16) * N * IP));
    transfer(w.hidden, whole_lines(sizeof(bf16) * N * M));
    transfer(w.slope, whole_lines(sizeof(bf16) * N * M));
    transfer(w.inverse_sum, whole_lines(sizeof w.inverse_sum));
    if (!LINEAR) transfer(w.top, whole_lines(sizeof w.top));
    if (LINEAR) transfer(w.S, whole_lines(sizeof w.S));
    if (LINEAR) transfer(w.z, whole_lines(sizeof w.z));
}

static long kept_bytes(Workspace &w) {
    long total = 0;
    with_kept(w, [&](void *, long bytes) { total += bytes; });
    return total;
}

static void store_rows(bf16 *to, int row, const float *from, int columns, int rows) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c += LANES)
            store(to + r * row + c, AT(from + r * columns + c));
}

// Stores the first T rows of the transpose of a matrix (W, TP).
[[maybe_unused]] static void store_columns(bf16 *to, int row, const float (*from)[TP]) {
    for (int d = 0; d < W; d += LANES)
        for (int t = 0; t < T; t += LANES) {
            vec x[LANES];
            for (int i = 0; i < LANES; i++) x[i] = AT(from[d + i] + t);
            transpose(x);
            for (int i = 0; i < LANES && t + i < T; i++) store(to + (t + i) * row + d, x[i]);
        }
}

// --------------------------------------------------------------------------------------
// Attention of one head: q, k, v and the result are rows of w.qkv and w.mixed.

#if !HW2_LINEAR

// y = inverse_sum (weights^T v): (T, W), where `weights` are pairs of keys down and queries across.
static void mix(bf16 *y, int y_row, const bits (*weights)[TV], const float *inverse_sum,
                const bf16 *v) {
    alignas(64) bf16 pairs[TI * W];
    if constexpr (TILES) {  // by columns: to turn v costs less than to turn the weights
        alignas(64) bf16 columns_of_v[W * TI];
        alignas(64) float columns[W][TP];
        Words left = turned(columns_of_v, pairs, v, QP, T, TI, W);
        multiply(W, TP, TI, columns[0], TP, left, (const bf16 *)weights, TP);
        for (int d = 0; d < W; d++)
            for (int c = 0; c < TV; c++) AT(columns[d] + c * LANES) *= AT(inverse_sum + c * LANES);
        store_columns(y, y_row, columns);
    } else {
        alignas(64) float rows[T][W];
        pair_rows(pairs, v, QP, T, TI, W);
        multiply(T, W, TI, rows[0], W, {(const word *)weights, 1, TP}, pairs, W);
        for (int t = 0; t < T; t++)
            for (int c = 0; c < W; c += LANES)
                store(y + t * y_row + c, AT(rows[t] + c) * inverse_sum[t]);
    }
}

// Scores have keys down and queries across, so that a sum over keys stays within its lane. With
// `again`, for the backward pass, only the weights are computed, from the largest scores kept.
static void attend(Workspace &w, int image, int head, bool again) {
    static const float scale = 1.44269504f / std::sqrt((float)W);  // of powers of two
    alignas(64) float scores[TP][TP];
    alignas(64) bf16 pairs[TP * TP];
    const bf16 *q = &w.qkv[image * T][head * W], *k = q + I, *v = k + I;
    auto &weights = w.weights[image * H + head];
    auto &inverse_sum = w.inverse_sum[image * H + head];
    auto &top = w.top[image * H + head];
    pair_columns(pairs, q, QP, TP, W);
    multiply(TR, TP, WP, scores[0], TP, rows_of(k, QP), pairs, TP);
    vec largest[TV], total[TV] = {};
    for (int c = 0; c < TV; c++) largest[c] = AT((again ? top : scores[0]) + c * LANES);
    if (!again) {
        for (int t = 1; t < T; t++)
            for (int c = 0; c < TV; c++) largest[c] = greater(largest[c], AT(scores[t] + c * LANES));
        for (int c = 0; c < TV; c++) AT(top + c * LANES) = largest[c] *= scale;
    }
    for (int t = 0; t < T; t += 2)
        for (int c = 0; c < TV; c++) {
            vec a = rough_power_of_two(AT(scores[t] + c * LANES) * scale - largest[c]);
            vec b = rough_power_of_two(AT(scores[t + 1] + c * LANES) * scale - largest[c]);
            if (t + 1 == T) b = vec{};
            total[c] += a + b;
            weights[t / 2][c] = pair(a, b);
        }
    if (again) return;
    for (int c = 0; c < TV; c++) AT(inverse_sum + c * LANES) = 1.0f / total[c];
    mix(&w.mixed[image * T][head * W], IP, weights, inverse_sum, v);
}

// P = weights x inverse_sum are the probabilities, g = dL/dy: dP = g v^T,
// dS = P (dP - sum over keys of P dP), then dq, dk and dv by products.
static void attend_backward(Workspace &w, int image, int head) {
    static const float scale = 1 / std::sqrt((float)W);
    alignas(64) float dP[TP][TP], ones[TP];
    alignas(64) bf16 pairs[TP * TP], P[TR][TP] = {}, dS[TR][TP] = {};
    const bf16 *q = &w.qkv[image * T][head * W], *k = q + I, *v = k + I;
    const bf16 *g = &w.dmixed[image * T][head * W];
    bf16 *dq = &w.dqkv[image * T][head * W], *dk = dq + I, *dv = dk + I;
    auto &weights = w.weights[image * H + head];
    auto &inverse_sum = w.inverse_sum[image * H + head];
    pair_columns(pairs, g, IP, TP, W);
    multiply(TR, TP, WP, dP[0], TP, rows_of(v, QP), pairs, TP);
    vec mean[TV] = {};
    for (int t = 0; t < T; t += 2)
        for (int c = 0; c < TV; c++) {
            vec a = (vec)(weights[t / 2][c] << 16) * AT(inverse_sum + c * LANES);
            vec b = (vec)(weights[t / 2][c] & 0xffff0000) * AT(inverse_sum + c * LANES);
            mean[c] += a * AT(dP[t] + c * LANES) + b * AT(dP[t + 1] + c * LANES);
            store(P[t] + c * LANES, a);
            store(P[t + 1] + c * LANES, b);
        }
    for (int t = 0; t < T; t += 2)
        for (int c = 0; c < TV; c++) {
            vec a = load(P[t] + c * LANES) * (AT(dP[t] + c * LANES) - mean[c]) * scale;
            vec b = load(P[t + 1] + c * LANES) * (AT(dP[t + 1] + c * LANES) - mean[c]) * scale;
            store(dS[t] + c * LANES, a);
            store(dS[t + 1] + c * LANES, b);
            weights[t / 2][c] = pair(a, b);  // from here on dS, in pairs of keys
        }
    float *product = dP[0];  // dP has done its work
    for (int c = 0; c < TV; c++) AT(ones + c * LANES) = vec{} + 1.0f;
    mix(dq, QP, weights, ones, k);
    pair_rows(pairs, g, IP, T, TI, W);
    multiply(TR, W, TI, product, W, rows_of(P[0], TP), pairs, W);
    store_rows(dv, QP, product, W, T);
    pair_rows(pairs, q, QP, T, TI, W);
    multiply(TR, W, TI, product, W, rows_of(dS[0], TP), pairs, W);
    store_rows(dk, QP, product, W, T);
}

#else

// q and k are features already. y = q S / n with S = k^T v, n = q . z and z = sum of k.
static void attend(Workspace &w, int image, int head, bool again) {
    if (again) return;
    alignas(64) float product[TP * W];
    alignas(64) bf16 pairs[TI * W], columns[W * TI], state_pairs[WP * W];
    const bf16 *q = &w.qkv[image * T][head * W], *k = q + I, *v = k + I;
    auto &S = w.S[image * H + head];
    auto &z = w.z[image * H + head];
    Words left = turned(columns, pairs, k, QP, T, TI, W);
    pair_rows(pairs, v, QP, T, TI, W);
    multiply(W, W, TI, product, W, left, pairs, W);
    store_rows(S[0], W, product, W, W);
    for (int c = 0; c < W; c += LANES) {
        vec total = {};
        for (int t = 0; t < T; t++) total += load(k + t * QP + c);
        AT(z + c) = total;
    }
    pair_rows(state_pairs, S[0], W, W, WP, W);
    multiply(TR, W, WP, product, W, rows_of(q, QP), state_pairs, W);
    for (int t = 0; t < T; t++) {
        vec n = {};
        for (int c = 0; c < W; c += LANES) n += load(q + t * QP + c) * AT(z + c);
        vec inverse_sum = 1.0f / sum(n);
        w.inverse_sum[image * H + head][t] = inverse_sum[0];
        for (int c = 0; c < W; c += LANES)
            store(&w.mixed[image * T + t][head * W + c], AT(product + t * W + c) * inverse_sum);
    }
}

// With u = g / n and dn = -(u . y): dq = u S^T + dn z, dS = q^T u, dz = sum of dn q,
// dk = v dS^T + dz, dv = k dS. Times the map's slope, dq and dk are gradients of what was mapped.
static void attend_backward(Workspace &w, int image, int head) {
    alignas(64) float product[TP * W], dz[W] = {}, dn[T];
    alignas(64) bf16 pairs[TI * W], columns[W * TI], state_pairs[WP * W], u[TP][WP] = {};
    alignas(64) bf16 dS[W][W + 16];
    const bf16 *q = &w.qkv[image * T][head * W], *k = q + I, *v = k + I;
    const bf16 *g = &w.dmixed[image * T][head * W], *y = &w.mixed[image * T][head * W];
    bf16 *dq = &w.dqkv[image * T][head * W], *dk = dq + I, *dv = dk + I;
    const float *z = w.z[image * H + head];
    for (int t = 0; t < T; t++) {
        float inverse_sum = w.inverse_sum[image * H + head][t];
        vec total = {};
        for (int c = 0; c < W; c += LANES) {
            vec upstream = load(g + t * IP + c) * inverse_sum;
            total += upstream * load(y + t * IP + c);
            store(u[t] + c, upstream);
        }
        dn[t] = -sum(total)[0];
        for (int c = 0; c < W; c += LANES) AT(dz + c) += dn[t] * load(q + t * QP + c);
    }
    pair_columns(state_pairs, w.S[image * H + head][0], W, W, W);
    multiply(TR, W, WP, product, W, rows_of(u[0], WP), state_pairs, W);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < W; c += LANES)
            store(dq + t * QP + c, elu_slope(load(q + t * QP + c)) *
                                       (AT(product + t * W + c) + dn[t] * AT(z + c)));
    Words left = turned(columns, pairs, q, QP, T, TI, W);
    pair_rows(pairs, u[0], WP, T, TI, W);
    multiply(W, W, TI, product, W, left, pairs, W);
    store_rows(dS[0], W + 16, product, W, W);
    pair_columns(state_pairs, dS[0], W + 16, W, W);
    multiply(TR, W, WP, product, W, rows_of(v, QP), state_pairs, W);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < W; c += LANES)
            store(dk + t * QP + c, elu_slope(load(k + t * QP + c)) *
                                       (AT(product + t * W + c) + AT(dz + c)));
    pair_rows(state_pairs, dS[0], W + 16, W, WP, W);
    multiply(TR, W, WP, product, W, rows_of(k, QP), state_pairs, W);
    store_rows(dv, QP, product, W, T);
}

#endif

// --------------------------------------------------------------------------------------
// The layer

// Computes everything up to the hidden units of the MLP; `finish` adds their output to x2. With
// `again`, for the backward pass, what was kept is not computed a second time.
static void forward(Workspace &w, const Weights &weights, const Parameters &p, int images,
                    float epsilon, bool again) {
    again = again && KEEPS;
    float *strip = w.strip;
    for (int n = 0; n < NP; n += STRIP) {
        for (int r = n; r < n + STRIP; r++)
            normalise(w.x[r], p.norm1, p.norm1_bias, epsilon, w.h1[r], w.mean1[r], w.scale1[r]);
        if (again) continue;
        multiply(STRIP, QKV, D, strip, QKV, rows_of(w.h1[n], D), weights.qkv.forward, QKV);
        if (LINEAR)
            for (int r = 0; r < STRIP; r++)
                for (int c = 0; c < 2 * I; c += LANES)
                    AT(strip + r * QKV + c) = rough_elu_plus_one(AT(strip + r * QKV + c));
        store_rows(w.qkv[n], QP, strip, QKV, STRIP);
    }
    // Both passes must find the same rows behind the last image: `top` is kept of these queries, too.
    memset(w.qkv[images * T], 0, sizeof(bf16) * QP * (ROWS - images * T));
    for (int image = 0; image < images; image++)
        for (int head = 0; head < H; head++) attend(w, image, head, again);
    memset(w.mixed[images * T], 0, sizeof(bf16) * IP * (ROWS - images * T));
    for (int n = 0; n < NP; n += STRIP) {
        multiply(STRIP, D, IP, strip, D, rows_of(w.mixed[n], IP), weights.out.forward, D);
        for (int r = 0; r < STRIP; r++) {
            for (int c = 0; c < D; c += LANES)
                AT(w.x2[n + r] + c) = AT(w.x[n + r] + c) + AT(strip + r * D + c) + AT(p.out_bias + c);
            normalise(w.x2[n + r], p.norm2, p.norm2_bias, epsilon, w.h2[n + r], w.mean2[n + r],
                      w.scale2[n + r]);
        }
        if (again) continue;
        multiply(STRIP, M, D, strip, M, rows_of(w.h2[n], D), weights.hidden.forward, M);
        for (int r = 0; r < STRIP; r++)
            for (int c = 0; c < M; c += LANES) {
                vec value, slope;
                rough_gelu(AT(strip + r * M + c) + AT(p.hidden_bias + c), value, slope);
                store(w.hidden[n + r] + c, value);
                store(w.slope[n + r] + c, slope);
            }
    }
}

static void finish(Workspace &w, const Weights &weights, const Parameters &p) {
    for (int n = 0; n < NP; n += STRIP) {
        float *strip = w.strip;
        multiply(STRIP, D, M, strip, D, rows_of(w.hidden[n], M), weights.mlp_out.forward, D);
        for (int r = 0; r < STRIP; r++)
            for (int c = 0; c < D; c += LANES)
                AT(w.x2[n + r] + c) += AT(strip + r * D + c) + AT(p.mlp_out_bias + c);
    }
}

// dweight (outputs, inputs) += g^T x, over all tokens
static void add_outer(Workspace &w, float *dweight, const bf16 *g, int g_row, int outputs,
                      const bf16 *x, int x_row, int inputs) {
    Words left = turned(w.left, w.right, g, g_row, NP, NI, outputs);
    pair_rows(w.right, x, x_row, NP, NI, inputs);
    multiply(outputs, inputs, NI, dweight, inputs, left, w.right, inputs, true);
}

// w.dx holds the gradient of y and becomes that of x.
static void backward(Workspace &w, const Weights &weights, const Parameters &p, Sums &d,
                     int images) {
    float *strip = w.strip;
    for (int n = 0; n < NP; n += STRIP) {
        for (int r = n; r < n + STRIP; r++)
            for (int c = 0; c < D; c += LANES) {
                AT(d.mlp_out_bias + c) += AT(w.dx[r] + c);
                store(w.dy[r] + c, AT(w.dx[r] + c));
            }
        multiply(STRIP, M, D, strip, M, rows_of(w.dy[n], D), weights.mlp_out.backward, M);
        for (int r = 0; r < STRIP; r++)
            for (int c = 0; c < M; c += LANES) {
                vec g = AT(strip + r * M + c) * load(w.slope[n + r] + c);
                AT(d.hidden_bias + c) += g;
                store(w.dhidden[n + r] + c, g);
            }
        multiply(STRIP, D, M, strip, D, rows_of(w.dhidden[n], M), weights.hidden.backward, D);
        for (int r = 0; r < STRIP; r++) {
            normalise_backward(strip + r * D, w.x2[n + r], p.norm2, w.mean2[n + r], w.scale2[n + r],
                               w.dx[n + r], d.norm2, d.norm2_bias);
            for (int c = 0; c < D; c += LANES) {
                AT(d.out_bias + c) += AT(w.dx[n + r] + c);
                store(w.dx2[n + r] + c, AT(w.dx[n + r] + c));
            }
        }
        multiply(STRIP, I, D, strip, I, rows_of(w.dx2[n], D), weights.out.backward, I);
        store_rows(w.dmixed[n], IP, strip, I, STRIP);
    }
    add_outer(w, d.mlp_out, w.dy[0], D, D, w.hidden[0], M, M);
    add_outer(w, d.hidden, w.dhidden[0], M, M, w.h2[0], D, D);
    add_outer(w, d.out, w.dx2[0], D, D, w.mixed[0], IP, I);
    for (int image = 0; image < images; image++)
        for (int head = 0; head < H; head++) attend_backward(w, image, head);
    memset(w.dqkv[images * T], 0, sizeof(bf16) * QP * (ROWS - images * T));
    for (int n = 0; n < NP; n += STRIP) {
        multiply(STRIP, D, QP, strip, D, rows_of(w.dqkv[n], QP), weights.qkv.backward, D);
        for (int r = 0; r < STRIP; r++)
            normalise_backward(strip + r * D, w.x[n + r], p.norm1, w.mean1[n + r], w.scale1[n + r],
                               w.dx[n + r], d.norm1, d.norm1_bias);
    }
    add_outer(w, d.qkv, w.dqkv[0], QP, QKV, w.h1[0], D, D);
}

// Images from <= i < to of a tensor, token by token, and zeros behind them.
static void read_images(float *rows, const float *tensor, long from, long to) {
    long numbers = (to - from) * T * D;
    memcpy(rows, tensor + from * T * D, sizeof(float) * numbers);
    memset(rows + numbers, 0, sizeof(float) * (NP * D - numbers));
}

static void write_images(const float *rows, float *tensor, long from, long to) {
    memcpy(tensor + from * T * D, rows, sizeof(float) * (to - from) * T * D);
}

static Workspace &workspace() {
    static thread_local auto own = std::make_unique<Workspace>();
    return *own;
}

extern "C" long layer_kept_bytes(long B) {
    return (B + IMAGES - 1) / IMAGES * kept_bytes(workspace());
}

// kept: memory for what the backward pass needs; null where none will follow.
extern "C" void layer_forward(const float *x, const Parameters *p, float *y, char *kept,
                              float epsilon, long B, long parts, long threads,
                              Parallel parallel) {
    auto weights = std::make_unique<Weights>(*p);
    Batch(B, IMAGES, parts, threads, parallel).each([&](long from, long to) {
        TileSetup setup;
        Workspace &w = workspace();
        read_images(w.x[0], x, from, to);
        forward(w, *weights, *p, to - from, epsilon, false);
        finish(w, *weights, *p);
        write_images(w.x2[0], y, from, to);
        if (!kept) return;
        char *there = kept + from / IMAGES * kept_bytes(w);
        with_kept(w, [&](void *here, long bytes) {
            for (long i = 0; i < bytes; i += sizeof(vec))
                stream((float *)(there + i), *(const loose_vec *)((char *)here + i));
            there += bytes;
        });
    });
}

// gradients: where those of the parameters go.
extern "C" void layer_backward(const float *x, const Parameters *p, const float *dy, float *dx,
                               const Parameters *gradients, const char *kept, float epsilon, long B,
                               long parts, long threads, Parallel parallel) {
    auto weights = std::make_unique<Weights>(*p);
    Batch batch(B, IMAGES, parts, threads, parallel);
    auto sums = batch.sum<Sums>([&](long from, long to, Sums &d) {
        TileSetup setup;
        Workspace &w = workspace();
        read_images(w.x[0], x, from, to);
        read_images(w.dx[0], dy, from, to);
        const char *there = kept + from / IMAGES * kept_bytes(w);
        with_kept(w, [&](void *here, long bytes) {
            memcpy(here, there, bytes);
            there += bytes;
        });
        forward(w, *weights, *p, to - from, epsilon, true);
        backward(w, *weights, *p, d, to - from);
        write_images(w.dx[0], dx, from, to);
    });
    sums->copy_to(*gradients);
}
