// What the kernels of an encoder layer have in common, in float32 and in bfloat16:
//
//     x2 = x + attention(norm1(x)),    y = x2 + mlp(norm2(x2))
//
// Compiled for one number of tokens, width, heads, width of a head, width of the MLP and kind of
// attention. x, y and their gradients are (B, T, D) float32; weights are (outputs, inputs), as in
// torch.nn.Linear.
#pragma once
#include <algorithm>
#include <memory>
#include <type_traits>

#include "simd.h"
#include "threads.h"

#ifndef HW2_TOKENS  // for whoever opens this in an editor
#define HW2_TOKENS 49
#define HW2_WIDTH 64
#define HW2_HEADS 4
#define HW2_HEAD_WIDTH 16
#define HW2_MLP_WIDTH 128
#define HW2_LINEAR 0
#endif
constexpr int T = HW2_TOKENS, D = HW2_WIDTH, H = HW2_HEADS, W = HW2_HEAD_WIDTH, M = HW2_MLP_WIDTH;
constexpr bool LINEAR = HW2_LINEAR;  // attention with elu + 1 in place of softmax

// The layer's parameters, or their gradients, in the order of `LayerParameters` in encoder_layer.py.
struct Parameters {
    float *norm1, *norm1_bias, *qkv, *out, *out_bias;
    float *norm2, *norm2_bias, *hidden, *hidden_bias, *mlp_out, *mlp_out_bias;
};

// x holds numbers c to c + LANES of a row of N. Sets those from N on to zero.
template <int N> inline vec inside(int c, vec x) {
    if constexpr (N % LANES != 0) {
        if (c + LANES > N)
            for (int i = N % LANES; i < LANES; i++) x[i] = 0;
    }
    return x;
}

// --------------------------------------------------------------------------------------
// LayerNorm: (x - mean) scale weight + bias. Rows are filled up to whole vectors.

template <class Number>
static inline void normalise(const float *x, const float *weight, const float *bias, float epsilon,
                             Number *out, float &mean, float &scale) {
    constexpr int DV = vectors(D);
    vec token[DV], total = {};
    for (int c = 0; c < DV; c++) total += token[c] = inside<D>(c * LANES, AT(x + c * LANES));
    mean = sum(total)[0] / D;
    total = vec{};
    for (int c = 0; c < DV; c++) {
        token[c] = inside<D>(c * LANES, token[c] - mean);
        total += token[c] * token[c];
    }
    scale = 1 / std::sqrt(sum(total)[0] / D + epsilon);
    for (int c = 0; c < DV; c++)
        store(out + c * LANES, token[c] * scale * AT(weight + c * LANES) + AT(bias + c * LANES));
}

// Adds (u - mean(u) - h mean(u h)) scale to dx, with h the normalised token and u = weight g.
static inline void normalise_backward(const float *g, const float *x, const float *weight,
                                      float mean, float scale, float *dx, float *dweight,
                                      float *dbias) {
    constexpr int DV = vectors(D);
    vec h[DV], u[DV], u_mean = {}, uh_mean = {};
    for (int c = 0; c < DV; c++) {
        vec upstream = inside<D>(c * LANES, AT(g + c * LANES));
        h[c] = (AT(x + c * LANES) - mean) * scale;
        u[c] = upstream * AT(weight + c * LANES);
        u_mean += u[c];
        uh_mean += u[c] * h[c];
        AT(dweight + c * LANES) += upstream * h[c];
        AT(dbias + c * LANES) += upstream;
    }
    u_mean = sum(u_mean) / (float)D;
    uh_mean = sum(uh_mean) / (float)D;
    for (int c = 0; c < DV; c++)
        AT(dx + c * LANES) += (u[c] - u_mean - h[c] * uh_mean) * scale;
}

// --------------------------------------------------------------------------------------
// GELU u Phi(u) and its slope Phi(u) + u phi(u), by Abramowitz & Stegun's formulas for erf

// 7.1.26: error 3e-7 (1 + |u|) at most.
static inline void gelu(vec u, vec &value, vec &slope) {
    vec e = power_of_two(u * u * -0.72134752f);  // e^(-u^2 / 2)
    vec t = 1.0f / (1.0f + 0.231641888f * (u < 0.0f ? -u : u));
    vec p = t * 0.5307027145f - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    vec tail = p * t * e;
    vec area = u < 0.0f ? tail : 1.0f - tail;
    value = u * area;
    slope = area + u * e * 0.39894228f;
}

// 7.1.25, for what is rounded to bfloat16 afterwards: error 5e-5 (1 + |u|) at most, and of the
// slope 1e-4 (1 + |u|).
static inline void rough_gelu(vec u, vec &value, vec &slope) {
    vec e = rough_power_of_two(u * u * -0.72134752f);
    vec t = rough_reciprocal(1.0f + 0.33267253f * (u < 0.0f ? -u : u));
    vec p = t * 0.3739278f - 0.0479399f;
    p = p * t + 0.1740121f;
    vec tail = p * t * e;
    vec area = u < 0.0f ? tail : 1.0f - tail;
    value = u * area;
    slope = area + u * e * 0.39894228f;
}

// --------------------------------------------------------------------------------------
// The feature map of linear attention, elu + 1: x + 1 above 0, e^x below, relative error 2e-7; the
// rough one 1e-4. Its slope follows from the feature: 1 where that is above 1, else the feature.

static inline vec elu_plus_one(vec x) {
    vec e = exponential(x < 0.0f ? x : vec{});
    return x > 0.0f ? x + 1.0f : e;
}
static inline vec rough_elu_plus_one(vec x) {
    vec e = rough_power_of_two(1.44269504f * (x < 0.0f ? x : vec{}));
    return x > 0.0f ? x + 1.0f : e;
}
static inline vec elu_slope(vec feature) { return feature > 1.0f ? vec{} + 1.0f : feature; }

// --------------------------------------------------------------------------------------

// B images, some at a time, in parts that threads share out. Sums over the images are made in each
// part on their own, then over the parts in their order: they do not depend on how many threads there
// are.
class Batch {
    long B, at_a_time, steps, parts, threads;
    Parallel parallel;

    template <class Work> void work_on(long part, const Work &work) const {
        for (long i = steps * part / parts; i < steps * (part + 1) / parts; i++)
            work(i * at_a_time, std::min((i + 1) * at_a_time, B));
    }

  public:
    Batch(long B, long at_a_time, long parts, long threads, Parallel parallel)
        : B(B), at_a_time(at_a_time), steps((B + at_a_time - 1) / at_a_time),
          parts(std::max(1L, std::min(parts, steps))), threads(std::min(threads, this->parts)),
          parallel(parallel) {}

    // Calls work(from, to) for all images.
    template <class Work> void each(const Work &work) const {
        share_out(parts, threads, parallel, [&](long part) { work_on(part, work); });
    }

    // Calls add(from, to, sums) for all images and returns the sums, which are nothing but floats.
    template <class Sums, class Add> std::unique_ptr<Sums> sum(const Add &add) const {
        static_assert(std::is_trivially_copyable_v<Sums> && sizeof(Sums) % sizeof(float) == 0);
        std::vector<std::unique_ptr<Sums>> of_part(parts);
        auto make = [&](long part) {
            of_part[part] = std::make_unique<Sums>();
            work_on(part, [&](long from, long to) { add(from, to, *of_part[part]); });
        };
        if (threads == 1) {  // one part after the other: its sums stay in the cache
            make(0);
            for (long part = 1; part < parts; part++) {
                make(part);
                add_to(*of_part[0], *of_part[part], 0, SIZE<Sums>);
                of_part[part].reset();
            }
        } else {
            share_out(parts, threads, parallel, make);
            const long chunk = 4096;
            share_out((SIZE<Sums> + chunk - 1) / chunk, threads, parallel, [&](long i) {
                long to = std::min((i + 1) * chunk, SIZE<Sums>);
                for (long part = 1; part < parts; part++)
                    add_to(*of_part[0], *of_part[part], i * chunk, to);
            });
        }
        return std::move(of_part[0]);
    }

  private:
    template <class Sums> static constexpr long SIZE = sizeof(Sums) / sizeof(float);

    template <class Sums> static void add_to(Sums &total, const Sums &more, long from, long to) {
        float *x = (float *)&total;
        const float *y = (const float *)&more;
        for (long i = from; i < to; i++) x[i] += y[i];
    }
};
