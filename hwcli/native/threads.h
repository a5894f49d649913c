// Work shared out over threads.
#pragma once
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

// Runs a function on several threads at once. It is OpenMP's entry point, so that torch's threads do
// the work, which are there and awake; null where torch has none.
typedef void (*Parallel)(void (*function)(void *), void *argument, unsigned threads,
                         unsigned flags);

// Calls work(i) once for every i below count, on whichever thread is free.
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
        }  // the system gives no more threads: those there are do all
        take();
        for (auto &other : others) other.join();
    }
}
