;; A WASI (preview 1) that grants nothing, linked into core modules that import one, such as those of Go. Language runtimes ask
;; it for arguments, environment, time and randomness before any policy code runs; all of it is answered the same way in every
;; call: no arguments, no environment, no files, a clock that counts its readings, fixed random bytes. What is written to standard
;; output or error vanishes. Nothing here imports anything, so the finished component does not either.
(module
  (import "env" "memory" (memory 0))

  ;; Nanoseconds. Not 0 at the start: Go takes 0 for a broken clock.
  (global $clock (mut i64) (i64.const 1000000000))
  (global $random (mut i64) (i64.const 0x9E3779B97F4A7C15))

  (func $ok (result i32) i32.const 0)

  ;; Nothing to read: two zeroes, for a count and a size.
  (func $two-zeroes (param $count i32) (param $size i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $size) (i32.const 0))
    (i32.const 0))
  (func $nothing (param i32 i32) (result i32) (i32.const 0))
  (export "args_sizes_get" (func $two-zeroes))
  (export "args_get" (func $nothing))
  (export "environ_sizes_get" (func $two-zeroes))
  (export "environ_get" (func $nothing))

  ;; A microsecond passes between two readings, so that loops that wait for time to pass end.
  (func (export "clock_time_get") (param $id i32) (param $precision i64) (param $time i32) (result i32)
    (global.set $clock (i64.add (global.get $clock) (i64.const 1000)))
    (i64.store (local.get $time) (global.get $clock))
    (i32.const 0))
  (func (export "clock_res_get") (param $id i32) (param $resolution i32) (result i32)
    (i64.store (local.get $resolution) (i64.const 1000))
    (i32.const 0))

  ;; Waiting takes no time: the clock is put forward by 10 ms, and nothing has happened.
  (func (export "poll_oneoff") (param $subscriptions i32) (param $events i32) (param $count i32) (param $happened i32) (result i32)
    (global.set $clock (i64.add (global.get $clock) (i64.const 10000000)))
    (i32.store (local.get $happened) (i32.const 0))
    (i32.const 0))
  (export "sched_yield" (func $ok))

  ;; Always the same bytes: xorshift, a byte a step.
  (func (export "random_get") (param $buffer i32) (param $length i32) (result i32)
    (local $x i64)
    (local.set $x (global.get $random))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (i64.store8 (local.get $buffer) (local.get $x))
        (local.set $buffer (i32.add (local.get $buffer) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next)))
    (global.set $random (local.get $x))
    (i32.const 0))

  ;; Everything is taken to be written: the sum of the lengths of `count` pairs (address, length).
  (func (export "fd_write") (param $fd i32) (param $parts i32) (param $count i32) (param $written i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (i32.add (local.get $sum) (i32.load offset=4 (local.get $parts))))
        (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  ;; The end of the program is the end of the call.
  (func (export "proc_exit") (param i32) unreachable)
  (func (export "proc_raise") (param i32) (result i32) unreachable)

  ;; There are no files, folders or sockets: whatever is named is a bad descriptor (EBADF).
  (func $i (param i32) (result i32) (i32.const 8))
  (func $ii (param i32 i32) (result i32) (i32.const 8))
  (func $iii (param i32 i32 i32) (result i32) (i32.const 8))
  (func $iiii (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $iiiii (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $iiiiii (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $iiiiiii (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (export "fd_close" (func $i))
  (export "fd_datasync" (func $i))
  (export "fd_sync" (func $i))
  (export "fd_fdstat_get" (func $ii))
  (export "fd_fdstat_set_flags" (func $ii))
  (export "fd_filestat_get" (func $ii))
  (export "fd_prestat_get" (func $ii))
  (export "fd_renumber" (func $ii))
  (export "fd_tell" (func $ii))
  (export "sock_shutdown" (func $ii))
  (export "fd_prestat_dir_name" (func $iii))
  (export "path_create_directory" (func $iii))
  (export "path_remove_directory" (func $iii))
  (export "path_unlink_file" (func $iii))
  (export "sock_accept" (func $iii))
  (export "fd_read" (func $iiii))
  (export "path_filestat_get" (func $iiiii))
  (export "path_symlink" (func $iiiii))
  (export "sock_send" (func $iiiii))
  (export "path_readlink" (func $iiiiii))
  (export "path_rename" (func $iiiiii))
  (export "sock_recv" (func $iiiiii))
  (export "path_link" (func $iiiiiii))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8)))
