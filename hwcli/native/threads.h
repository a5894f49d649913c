// Work shared out over threads.
#pragma once
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

// What runs a function on several threads at once: OpenMP's entry point, so that torch's threads
// do it, which are there and awake; null where torch has none.
typedef void (*Parallel)(void (*function)(void *), void *argument, unsigned threads,
                         unsigned flags);

// work(i) for every i below count, each once, on whichever thread is free.
template <class Work> void share_out(long count, long threads, Parallel parallel, Work work) {
    std::atomic<long> next{0};
    auto take = [&] {
        for (long i; (i = next++) < count;) work(i);
    };
    if (threads == 1) {
        take();
    } else if (parallel) {
        parallel([](void *x) { (*(decltype(take) *)x)(); }, &take, threads, 0);
    } else {
        std::vector<std::thread> others;
        try {
            for (long i = 1; i < threads; i++) others.emplace_back(take);
        } catch (const std::system_error &) {
        }  // no more threads to be had: these do it
        take();
        for (auto &other : others) other.join();
    }
}
