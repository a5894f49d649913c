// Layer normalisation of a float32 residual stream into bfloat16 and back, and the sum of the
// stream and a bfloat16 branch: one pass over memory each, where autocasting takes two or three.
//
// Compiled for one D (width of a token), a multiple of 16. x, sums and dx (N, D) float32;
// out, branch and upstream (N, D) bfloat16; means and scales, each token's mean and one over its
// deviation, (N,).
#include "vectors.h"

constexpr int DV = D / LANES;

extern "C" void add_branch(const float *x, const uint16_t *branch, float *sums, long N) {
    for (long i = 0; i < N * D; i += LANES) at(sums + i) = at(x + i) + load(branch + i);
}

extern "C" void norm_forward(const float *x, const float *weight, const float *bias, uint16_t *out,
                             float *means, float *scales, float epsilon, long N) {
    for (long n = 0; n < N; n++) {
        vec token[DV], total = {};
        for (int c = 0; c < DV; c++) {
            token[c] = at(x + n * D + c * LANES);
            total += token[c];
        }
        vec mean = sum(total) / (float)D;
        total = vec{};
        for (int c = 0; c < DV; c++) {
            token[c] -= mean;
            total += token[c] * token[c];
        }
        float scale = 1.0f / std::sqrt(sum(total)[0] / D + epsilon);
        for (int c = 0; c < DV; c++)
            store(out + n * D + c * LANES,
                  token[c] * scale * at(weight + c * LANES) + at(bias + c * LANES));
        means[n] = mean[0];
        scales[n] = scale;
    }
}

// With h the normalised token and u = weight g: dx = (u - mean(u) - h mean(u h)) scale.
extern "C" void norm_backward(const uint16_t *upstream, const float *x, const float *weight,
                              const float *means, const float *scales, float *dx, float *dweight,
                              float *dbias, long N) {
    vec weight_total[DV] = {}, bias_total[DV] = {};
    for (long n = 0; n < N; n++) {
        vec h[DV], u[DV], u_mean = {}, uh_mean = {};
        for (int c = 0; c < DV; c++) {
            vec g = load(upstream + n * D + c * LANES);
            h[c] = (at(x + n * D + c * LANES) - means[n]) * scales[n];
            u[c] = g * at(weight + c * LANES);
            u_mean += u[c];
            uh_mean += u[c] * h[c];
            weight_total[c] += g * h[c];
            bias_total[c] += g;
        }
        u_mean = sum(u_mean) / (float)D;
        uh_mean = sum(uh_mean) / (float)D;
        for (int c = 0; c < DV; c++)
            at(dx + n * D + c * LANES) = (u[c] - u_mean - h[c] * uh_mean) * scales[n];
    }
    for (int c = 0; c < DV; c++) {
        at(dweight + c * LANES) = weight_total[c];
        at(dbias + c * LANES) = bias_total[c];
    }
}
