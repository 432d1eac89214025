;; Ballast's own preview1: a core module built for wasi_snapshot_preview1 becomes a component that imports no WASI.
;;
;; The clock starts at 0 and advances a microsecond a reading; randomness comes from a fixed seed, so a replay repeats
;; it; standard output goes to `log` as info, standard error as warn; there are no files, arguments or variables.
;; Error numbers: 8 badf, 29 inval as preview1 counts them.
;;
;; `preview1.wasm` beside this file is what a test in `componentize.rs` makes of it, with the world `preview1-shim`.
(module
  (import "env" "memory" (memory 0))
  (import "ballast:policy/log@0.1.0" "log" (func $log (param $level i32) (param $text i32) (param $bytes i32)))
  (global $nanoseconds (mut i64) (i64.const 0))
  (global $random (mut i64) (i64.const 0x9E3779B97F4A7C15))

  ;; Time and randomness.
  (func (export "clock_time_get") (param i32 i64) (param $out i32) (result i32)
    (global.set $nanoseconds (i64.add (global.get $nanoseconds) (i64.const 1000)))
    (i64.store (local.get $out) (global.get $nanoseconds))
    (i32.const 0))
  (func (export "clock_res_get") (param i32) (param $out i32) (result i32)
    (i64.store (local.get $out) (i64.const 1000))
    (i32.const 0))
  (func (export "random_get") (param $out i32) (param $left i32) (result i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        ;; xorshift64
        (global.set $random (i64.xor (global.get $random) (i64.shl (global.get $random) (i64.const 13))))
        (global.set $random (i64.xor (global.get $random) (i64.shr_u (global.get $random) (i64.const 7))))
        (global.set $random (i64.xor (global.get $random) (i64.shl (global.get $random) (i64.const 17))))
        (i64.store8 (local.get $out) (i64.shr_u (global.get $random) (i64.const 40)))
        (local.set $out (i32.add (local.get $out) (i32.const 1)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; No arguments, no environment.
  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (func $nothing_to_write (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $nothing_to_write))
  (export "environ_get" (func $nothing_to_write))

  ;; Standard output and error, a line or more for each vector; standard input is at its end.
  (func (export "fd_write") (param $fd i32) (param $vector i32) (param $left i32) (param $out i32) (result i32)
    (local $sum i32) (local $bytes i32)
    (if (i32.or (i32.lt_u (local.get $fd) (i32.const 1)) (i32.gt_u (local.get $fd) (i32.const 2)))
      (then (return (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $bytes (i32.load offset=4 (local.get $vector)))
        ;; Descriptor 1 is level info, descriptor 2 level warn: the numbers are the same.
        (if (local.get $bytes)
          (then (call $log (local.get $fd) (i32.load (local.get $vector)) (local.get $bytes))))
        (local.set $sum (i32.add (local.get $sum) (local.get $bytes)))
        (local.set $vector (i32.add (local.get $vector) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $out) (local.get $sum))
    (i32.const 0))
  (func (export "fd_read") (param i32 i32 i32) (param $out i32) (result i32)
    (i32.store (local.get $out) (i32.const 0))
    (i32.const 0))
  (func (export "fd_fdstat_get") (param $fd i32) (param $out i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    ;; A character device with every right, so that runtimes buffer by lines.
    (i64.store (local.get $out) (i64.const 2))
    (i64.store offset=8 (local.get $out) (i64.const -1))
    (i64.store offset=16 (local.get $out) (i64.const 0))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 0))
  (func (export "fd_close") (param i32) (result i32) (i32.const 0))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 29))

  ;; No files.
  (func (export "fd_filestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))

  ;; Every subscription (48 bytes) is ready at once; its event (32 bytes) repeats its userdata and type.
  (func (export "poll_oneoff") (param $in i32) (param $events i32) (param $left i32) (param $out i32) (result i32)
    (i32.store (local.get $out) (local.get $left))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (i64.store (local.get $events) (i64.load (local.get $in)))
        (i32.store16 offset=8 (local.get $events) (i32.const 0))
        (i32.store8 offset=10 (local.get $events) (i32.load8_u offset=8 (local.get $in)))
        (i64.store offset=16 (local.get $events) (i64.const 0))
        (i64.store offset=24 (local.get $events) (i64.const 0))
        (local.set $in (i32.add (local.get $in) (i32.const 48)))
        (local.set $events (i32.add (local.get $events) (i32.const 32)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (global.set $nanoseconds (i64.add (global.get $nanoseconds) (i64.const 1000000)))
    (i32.const 0))
  (func (export "sched_yield") (result i32) (i32.const 0))
  (func (export "proc_exit") (param i32) unreachable)

  ;; The component encoder calls it around `cabi_realloc`; there is nothing to pause.
  (func (export "adapter_monotonic_clock_set_paused") (param i32)))
