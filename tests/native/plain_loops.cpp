// Holds one kernel against its formula in plain loops of doubles; a program, so that it runs under
// an emulator and under sanitizers. test_plain_loops.py compiles it once for each kernel:
// HW2_KERNEL is the source, CHECK_... says which. It prints what differs, and returns how many.
//
// Gradients are held against differences of the plain loops: the slope of sum(g y) along a random
// direction of each input must be the gradient's product with the direction.
#include HW2_KERNEL

#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace plain {

typedef std::vector<double> Numbers;

static int num_failures = 0;
static std::mt19937 generator(7);

// Exactly what a float32 or a bfloat16 holds, so that both sides begin with the same.
template <class Element> static Numbers draw(long n, double scale = 1) {
    std::normal_distribution<float> normal;
    Numbers x(n);
    for (double &value : x) {
        Element kept;
        store_one(&kept, (float)(scale * normal(generator)));
        value = load_one(kept);
    }
    return x;
}

// Blocks of exactly the size that is used, so that a sanitizer sees what is read behind them.
template <class Element> struct Block {
    std::unique_ptr<Element[]> data;
    long size;
    explicit Block(long n) : data(new Element[n]()), size(n) {}
    explicit Block(const Numbers &x) : Block(x.size()) {
        for (long i = 0; i < size; i++) store_one(&data[i], (float)x[i]);
    }
    operator Element *() { return data.get(); }
    Numbers numbers() const {
        Numbers x(size);
        for (long i = 0; i < size; i++) x[i] = load_one(data[i]);
        return x;
    }
};

static double dot(const Numbers &x, const Numbers &y) {
    double total = 0;
    for (size_t i = 0; i < x.size(); i++) total += x[i] * y[i];
    return total;
}
static double norm(const Numbers &x) { return std::sqrt(dot(x, x)); }

static void expect(const std::string &what, double error, double allowed) {
    if (error <= allowed) return;  // and not where it is no number
    printf("%s: error %.2e where %.0e is allowed\n", what.c_str(), error, allowed);
    num_failures++;
}

static void hold(const std::string &what, const Numbers &got, const Numbers &want, double allowed) {
    Numbers difference(got);
    for (size_t i = 0; i < got.size(); i++) difference[i] -= want[i];
    expect(what, norm(difference) / norm(want), allowed);
}

// value(x) is the sum of g y for this input in place of another.
static void hold_gradient(const std::string &what, const Numbers &gradient, const Numbers &x,
                          const std::function<double(const Numbers &)> &value, double allowed) {
    constexpr double STEP = 1e-5;
    Numbers direction = draw<float>(x.size()), up(x), down(x);
    for (size_t j = 0; j < x.size(); j++) {
        up[j] += STEP * direction[j];
        down[j] -= STEP * direction[j];
    }
    double slope = (value(up) - value(down)) / (2 * STEP);
    expect("gradient of " + what, std::abs(dot(gradient, direction) - slope) / norm(gradient),
           allowed);
}

// --------------------------------------------------------------------------------------
#ifdef CHECK_LINEAR_ATTENTION

constexpr long HEADS = 2, TOKENS = 2 * C + 7;  // chunks that are not whole, and more parts than one

static Numbers mapped(Map map, const Numbers &x) {
    Numbers y(x);
    for (size_t t = 0; t < x.size(); t += D) {
        double total = 0;
        for (int d = 0; d < D; d++) total += std::exp(x[t + d]);
        for (int d = 0; d < D; d++) {
            if (map == ELU1) y[t + d] = x[t + d] > 0 ? x[t + d] + 1 : std::exp(x[t + d]);
            if (map == RELU) y[t + d] = std::max(x[t + d], 0.0);
            if (map == SOFTMAX) y[t + d] = std::exp(x[t + d]) / total;
        }
    }
    return y;
}

static Numbers attend(Map map, bool causal, const Numbers &q, const Numbers &k, const Numbers &v) {
    Numbers queries = mapped(map, q), keys = mapped(map, k), y(v.size());
    for (long h = 0; h < HEADS; h++)
        for (long i = 0; i < TOKENS; i++) {
            double *out = &y[(h * TOKENS + i) * D], total = 0;
            for (long j = 0; j < (causal ? i + 1 : TOKENS); j++) {
                double weight = 0;
                for (int d = 0; d < D; d++)
                    weight += queries[(h * TOKENS + i) * D + d] * keys[(h * TOKENS + j) * D + d];
                for (int d = 0; d < D; d++) out[d] += weight * v[(h * TOKENS + j) * D + d];
                total += weight;
            }
            for (int d = 0; d < D; d++) out[d] /= total;
        }
    return y;
}

static View view(Block<Element> &x) { return {x, HEADS * TOKENS * D, TOKENS * D, D}; }

static void check() {
    const double allowed = sizeof(Element) == 4 ? 2e-5 : 2e-2;
    const char *names[] = {"identity", "elu + 1", "relu", "softmax"};
    for (int map = IDENTITY; map <= SOFTMAX; map++)
        for (int causal = 0; causal < 2; causal++)
            for (long parts = 1; parts <= 3; parts += 2) {
                const long n = HEADS * TOKENS * D;
                Numbers q = draw<Element>(n), k = draw<Element>(n), v = draw<Element>(n);
                if (map == IDENTITY || map == RELU)  // no sum may vanish, and no slope jump
                    for (long i = 0; i < n; i++) {
                        q[i] = std::max(std::abs(q[i]), 0.125);
                        k[i] = std::max(std::abs(k[i]), 0.125);
                    }
                Numbers g = draw<Element>(n);
                Block<Element> Q(q), K(k), V(v), G(g), y(n), dq(n), dk(n), dv(n);
                Block<float> normalizers(HEADS * TOKENS), dnormalizers(HEADS * TOKENS);
                std::unique_ptr<Sums[]> sums(new Sums[HEADS * parts]),
                    gradients(new Sums[HEADS * parts]);
                linear_forward(view(Q), view(K), view(V), view(y), normalizers, sums.get(), map,
                               causal, 1, HEADS, TOKENS, parts, parts, nullptr);
                linear_backward(view(Q), view(K), view(V), view(G), view(dq), view(dk), view(dv),
                                normalizers, dnormalizers, sums.get(), gradients.get(), map,
                                causal, 1, HEADS, TOKENS, parts, parts, nullptr);
                std::string name = std::string(names[map]) + (causal ? ", causal" : "");
                auto value = [&](const Numbers &a, const Numbers &b, const Numbers &c) {
                    return dot(g, attend((Map)map, causal, a, b, c));
                };
                hold(name, y.numbers(), attend((Map)map, causal, q, k, v), allowed);
                hold_gradient(name + ": q", dq.numbers(), q,
                              [&](const Numbers &x) { return value(x, k, v); }, 10 * allowed);
                hold_gradient(name + ": k", dk.numbers(), k,
                              [&](const Numbers &x) { return value(q, x, v); }, 10 * allowed);
                hold_gradient(name + ": v", dv.numbers(), v,
                              [&](const Numbers &x) { return value(q, k, x); }, 10 * allowed);
            }
}
#endif

// --------------------------------------------------------------------------------------
#ifdef CHECK_NEWTON_SCHULZ

static void check() {
    typedef HW2_ELEMENT Element;
    constexpr long COUNT = 3, R = 32, C = 96, STEPS = 3;
    const double a = 3.4445, b = -4.7750, c = 2.0315;
    Numbers want = draw<Element>(COUNT * R * C, 0.02);
    Block<Element> X(want);
    newton_schulz(X, COUNT, R, C, STEPS, a, b, c, 2, nullptr);
    for (double *x = want.data(); x < want.data() + want.size(); x += R * C)
        for (int step = 0; step < STEPS; step++) {
            Numbers A(R * R), B(R * R), next(R * C);
            for (int i = 0; i < R; i++)
                for (int j = 0; j < R; j++)
                    for (int k = 0; k < C; k++) A[i * R + j] += x[i * C + k] * x[j * C + k];
            for (int i = 0; i < R; i++)
                for (int j = 0; j < R; j++) {
                    for (int k = 0; k < R; k++) B[i * R + j] += c * A[i * R + k] * A[k * R + j];
                    B[i * R + j] += b * A[i * R + j];
                }
            for (int i = 0; i < R; i++)
                for (int j = 0; j < C; j++) {
                    for (int k = 0; k < R; k++) next[i * C + j] += B[i * R + k] * x[k * C + j];
                    next[i * C + j] += a * x[i * C + j];
                }
            std::copy(next.begin(), next.end(), x);
        }
    hold("X", X.numbers(), want, sizeof(Element) == 4 ? 1e-5 : 2e-2);
}
#endif

// --------------------------------------------------------------------------------------
#ifdef CHECK_ENCODER_LAYER

constexpr long IMAGES_HERE = 3;  // no whole group of images
constexpr double EPSILON = 1e-5;
constexpr int NUM_PARAMETERS = 11;
const long SIZES[NUM_PARAMETERS] = {D, D, 3L * H * W * D, (long)D * H * W, D, D, D,
                                    (long)M * D, M, (long)D * M, D};
const char *NAMES[NUM_PARAMETERS] = {"norm1", "norm1_bias", "qkv", "out", "out_bias", "norm2",
                                     "norm2_bias", "hidden", "hidden_bias", "mlp_out",
                                     "mlp_out_bias"};
typedef std::vector<Numbers> Learned;

static void norm_token(const double *x, const Numbers &weight, const Numbers &bias, double *out) {
    double mean = 0, variance = 0;
    for (int d = 0; d < D; d++) mean += x[d] / D;
    for (int d = 0; d < D; d++) variance += (x[d] - mean) * (x[d] - mean) / D;
    for (int d = 0; d < D; d++)
        out[d] = (x[d] - mean) / std::sqrt(variance + EPSILON) * weight[d] + bias[d];
}

// (rows, inner) by weights (outputs, inner)
static Numbers apply(const Numbers &x, const Numbers &weights, long inner) {
    long rows = x.size() / inner, outputs = weights.size() / inner;
    Numbers y(rows * outputs);
    for (long r = 0; r < rows; r++)
        for (long o = 0; o < outputs; o++)
            for (long i = 0; i < inner; i++)
                y[r * outputs + o] += x[r * inner + i] * weights[o * inner + i];
    return y;
}

static Numbers attend(const Numbers &qkv) {
    constexpr int INNER = H * W, ROW = 3 * INNER;
    auto map = [](double x) { return x > 0 ? x + 1 : std::exp(x); };
    Numbers y(IMAGES_HERE * T * INNER);
    for (long image = 0; image < IMAGES_HERE; image++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < T; i++) {
                double weights[T], total = 0, *out = &y[(image * T + i) * INNER + h * W];
                const double *q = &qkv[(image * T + i) * ROW + h * W];
                for (int j = 0; j < T; j++) {
                    const double *k = &qkv[(image * T + j) * ROW + INNER + h * W];
                    double score = 0;
                    for (int d = 0; d < W; d++)
                        score += LINEAR ? map(q[d]) * map(k[d]) : q[d] * k[d] / std::sqrt(W);
                    total += weights[j] = LINEAR ? score : std::exp(score);
                }
                for (int j = 0; j < T; j++)
                    for (int d = 0; d < W; d++)
                        out[d] += weights[j] / total *
                                  qkv[(image * T + j) * ROW + 2 * INNER + h * W + d];
            }
    return y;
}

static Numbers encode(const Numbers &x, const Learned &p) {
    Numbers normed(x.size()), y(x);
    for (size_t t = 0; t < x.size(); t += D) norm_token(&x[t], p[0], p[1], &normed[t]);
    Numbers mixed = apply(attend(apply(normed, p[2], D)), p[3], H * W);
    for (size_t i = 0; i < y.size(); i++) y[i] += mixed[i] + p[4][i % D];
    for (size_t t = 0; t < x.size(); t += D) norm_token(&y[t], p[5], p[6], &normed[t]);
    Numbers hidden = apply(normed, p[7], D);
    for (size_t i = 0; i < hidden.size(); i++) {
        double u = hidden[i] + p[8][i % M];
        hidden[i] = u * 0.5 * (1 + std::erf(u / std::sqrt(2.0)));
    }
    Numbers out = apply(hidden, p[9], M);
    for (size_t i = 0; i < y.size(); i++) y[i] += out[i] + p[10][i % D];
    return y;
}

static void check() {
    const long n = IMAGES_HERE * T * D, parts = 3, threads = 2;
    Numbers x = draw<float>(n), g = draw<float>(n);
    Learned learned;
    for (long size : SIZES) learned.push_back(draw<float>(size, size > 3 * D * H ? 0.2 : 0.5));
    std::vector<Block<float>> kept_parameters, sums;
    for (const Numbers &numbers : learned) kept_parameters.emplace_back(numbers);
    for (long size : SIZES) sums.emplace_back(size);
    Parameters parameters, gradients;
    for (int i = 0; i < NUM_PARAMETERS; i++) {
        ((float **)&parameters)[i] = kept_parameters[i];
        ((float **)&gradients)[i] = sums[i];
    }
    Block<float> X(x), G(g), y(n), dx(n);
    std::unique_ptr<char[]> kept(new char[layer_kept_bytes(IMAGES_HERE)]);
    layer_forward(X, &parameters, y, kept.get(), EPSILON, IMAGES_HERE, parts, threads, nullptr);
    layer_backward(X, &parameters, G, dx, &gradients, kept.get(), EPSILON, IMAGES_HERE, parts, 1,
                   nullptr);
    std::vector<Numbers> by_one_thread;
    for (const Block<float> &sum : sums) by_one_thread.push_back(sum.numbers());
    layer_backward(X, &parameters, G, dx, &gradients, kept.get(), EPSILON, IMAGES_HERE, parts,
                   threads, nullptr);
    for (int i = 0; i < NUM_PARAMETERS; i++)
        expect(std::string(NAMES[i]) + " by several threads", sums[i].numbers() != by_one_thread[i],
               0);
#ifdef IN_FLOAT32
    const double allowed = 1e-5;
#else
    const double allowed = 2e-2;
#endif
    hold("y", y.numbers(), encode(x, learned), allowed);
    hold_gradient("x", dx.numbers(), x,
                  [&](const Numbers &other) { return dot(g, encode(other, learned)); },
                  10 * allowed);
    for (int i = 0; i < NUM_PARAMETERS; i++) {
        hold_gradient(NAMES[i], sums[i].numbers(), learned[i],
                      [&](const Numbers &other) {
                          Learned changed(learned);
                          changed[i] = other;
                          return dot(g, encode(x, changed));
                      },
                      10 * allowed);
    }
}
#endif

}  // namespace plain

int main() {
#ifdef ASKS_FOR_TILES
    if (!tiles_are_given()) {
        printf("the system does not give this program the processor's tiles\n");
        return 1;
    }
#endif
    plain::check();
    printf("%d failures, %d lanes\n", plain::num_failures, LANES);
    return plain::num_failures;
}
