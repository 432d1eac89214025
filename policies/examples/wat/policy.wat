;; Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
;;
;; By hand, canonical ABI and all (wit/policy.wit, world slot-policy): texts and lists are a pointer and a length, what is
;; more than one number is written where the last argument points, and what the daemon gives is allocated with cabi_realloc.
;;
;; Memory: constants below 1024, answers from 1024, then a heap that is given back when a call has ended.
(module
  (import "ballast:policy/cluster@0.1.0" "nodes" (func $ask_nodes (param $answer i32)))
  (import "ballast:policy/cluster@0.1.0" "owners" (func $ask_owners (param $answer i32)))
  (import "ballast:policy/cluster@0.1.0" "slot-metric" (func $ask_slot_metric (param $name i32) (param $length i32) (param $answer i32)))
  (import "ballast:policy/cluster@0.1.0" "in-flight" (func $ask_in_flight (param $answer i32)))

  (memory (export "memory") 1)

  ;; Texts end with a zero here; the name has room for 64 letters.
  (data (i32.const 16) "even-memory\00")
  (data (i32.const 96) "0.1.0\00")
  (data (i32.const 112) "moves slots from the fullest node to the emptiest until memory is even\00")
  (data (i32.const 192) "slot/bytes\00")
  (data (i32.const 208) "bytes\00")
  (data (i32.const 224) "slot/bytes is not there yet\00")
  (data (i32.const 256) "cordoned\00")
  (data (i32.const 272) "draining\00")
  (data (i32.const 288) "loading\00")
  (data (i32.const 304) "suspect\00")
  (data (i32.const 320) "drain\00")
  (data (i32.const 328) "memory\00")
  (data (i32.const 336) "imbalance\00")
  (data (i32.const 352) "no node can take slots\00")
  (data (i32.const 376) "moves: \00")
  (data (i32.const 384) "; the fullest node holds \00")
  (data (i32.const 416) "% of its fair share\00")
  (data (i32.const 448) "threshold-percent\00")
  (data (i32.const 480) "max-moves\00")
  (data (i32.const 496) "parameters: give one JSON object\00")
  (data (i32.const 544) ": give a whole number from \00")
  (data (i32.const 576) " to \00")
  (data (i32.const 584) "unknown parameter '\00")
  (data (i32.const 608) "': there are threshold-percent and max-moves\00")
  (data (i32.const 656) "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{")
  (data (i32.const 716) "\"threshold-percent\":{\"type\":\"integer\",\"minimum\":100,\"maximum\":1000,\"default\":110},")
  (data (i32.const 798) "\"max-moves\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,\"default\":100}}}\00")

  ;; What is configured.
  (global $threshold (mut i32) (i32.const 110))
  (global $moves_max (mut i32) (i32.const 100))

  ;; ------ Memory and texts

  (global $heap (mut i32) (i32.const 2048))

  ;; Zeroed bytes, aligned to 8, until the call ends.
  (func $alloc (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.and (i32.const -8) (i32.add (i32.const 7) (i32.add (local.get $at) (local.get $bytes)))))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $bytes) (i32.const 16)))))
          (then unreachable))))
    (memory.fill (local.get $at) (i32.const 0) (local.get $bytes))
    (local.get $at))

  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (call $alloc (local.get $bytes)))
    (memory.copy (local.get $at) (local.get $old)
      (select (local.get $had) (local.get $bytes) (i32.lt_u (local.get $had) (local.get $bytes))))
    (local.get $at))

  ;; The daemon has read the answer.
  (func $end_of_call (param $answer i32) (global.set $heap (i32.const 2048)))
  (export "cabi_post_ballast:policy/policy@0.1.0#describe" (func $end_of_call))
  (export "cabi_post_ballast:policy/policy@0.1.0#configure" (func $end_of_call))
  (export "cabi_post_ballast:policy/policy@0.1.0#plan" (func $end_of_call))

  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (loop $more
      (if (i32.load8_u (local.get $end))
        (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $more))))
    (i32.sub (local.get $end) (local.get $text)))

  ;; Writes pointer and length of a text.
  (func $put (param $where i32) (param $text i32)
    (i32.store (local.get $where) (local.get $text))
    (i32.store offset=4 (local.get $where) (call $length (local.get $text))))

  ;; Whether so many bytes are the text.
  (func $same (param $at i32) (param $bytes i32) (param $text i32) (result i32)
    (if (i32.ne (local.get $bytes) (call $length (local.get $text))) (then (return (i32.const 0))))
    (loop $more
      (if (i32.eqz (local.get $bytes)) (then (return (i32.const 1))))
      (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
      (br_if $more (i32.eq
        (i32.load8_u (i32.add (local.get $at) (local.get $bytes)))
        (i32.load8_u (i32.add (local.get $text) (local.get $bytes))))))
    (i32.const 0))

  ;; A text in the making: from $said to $saying.
  (global $said (mut i32) (i32.const 0))
  (global $saying (mut i32) (i32.const 0))

  (func $begin_text (param $room i32)
    (global.set $said (call $alloc (local.get $room)))
    (global.set $saying (global.get $said)))

  (func $say_bytes (param $at i32) (param $bytes i32)
    (memory.copy (global.get $saying) (local.get $at) (local.get $bytes))
    (global.set $saying (i32.add (global.get $saying) (local.get $bytes))))

  (func $say (param $text i32) (call $say_bytes (local.get $text) (call $length (local.get $text))))

  (func $say_number (param $number i32)
    (if (i32.ge_u (local.get $number) (i32.const 10))
      (then (call $say_number (i32.div_u (local.get $number) (i32.const 10)))))
    (i32.store8 (global.get $saying) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
    (global.set $saying (i32.add (global.get $saying) (i32.const 1))))

  (func $put_said (param $where i32)
    (i32.store (local.get $where) (global.get $said))
    (i32.store offset=4 (local.get $where) (i32.sub (global.get $saying) (global.get $said))))

  ;; ------ describe: a record of name, version, summary, needs, parameters-schema at 1024; needs at 1072

  (func (export "ballast:policy/policy@0.1.0#describe") (result i32)
    (call $put (i32.const 1024) (i32.const 16))
    (call $put (i32.const 1032) (i32.const 96))
    (call $put (i32.const 1040) (i32.const 112))
    (i32.store (i32.const 1048) (i32.const 1072))
    (i32.store (i32.const 1052) (i32.const 1))
    (call $put (i32.const 1056) (i32.const 656))
    (call $put (i32.const 1072) (i32.const 192))
    (i32.const 1024))

  ;; ------ configure: reads {"key": number, ...}; answers a result<_, string> at 1088

  ;; What is left to read.
  (global $at (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0))

  ;; The next byte; 0 at the end.
  (func $next (result i32)
    (if (result i32) (i32.lt_u (global.get $at) (global.get $end))
      (then (i32.load8_u (global.get $at)))
      (else (i32.const 0))))

  (func $advance (global.set $at (i32.add (global.get $at) (i32.const 1))))

  (func $is_space (param $byte i32) (result i32)
    (i32.or
      (i32.or (i32.eq (local.get $byte) (i32.const 32)) (i32.eq (local.get $byte) (i32.const 9)))
      (i32.or (i32.eq (local.get $byte) (i32.const 10)) (i32.eq (local.get $byte) (i32.const 13)))))

  (func $skip_space
    (loop $more (if (call $is_space (call $next)) (then (call $advance) (br $more)))))

  ;; Whether this byte comes next, after space or not; then it is skipped.
  (func $skip (param $byte i32) (result i32)
    (call $skip_space)
    (if (i32.ne (call $next) (local.get $byte)) (then (return (i32.const 0))))
    (call $advance)
    (i32.const 1))

  ;; A whole number of at most nine digits; -1 for everything else, fractions included.
  (func $whole (result i32)
    (local $number i32) (local $start i32) (local $byte i32)
    (call $skip_space)
    (local.set $start (global.get $at))
    (loop $more
      (local.set $byte (i32.sub (call $next) (i32.const 48)))
      (if (i32.and
            (i32.lt_u (local.get $byte) (i32.const 10))
            (i32.lt_u (i32.sub (global.get $at) (local.get $start)) (i32.const 9)))
        (then
          (local.set $number (i32.add (local.get $byte) (i32.mul (local.get $number) (i32.const 10))))
          (call $advance)
          (br $more))))
    ;; No digits, or a zero before others.
    (if (i32.eq (global.get $at) (local.get $start)) (then (return (i32.const -1))))
    (if (i32.and
          (i32.eq (i32.load8_u (local.get $start)) (i32.const 48))
          (i32.gt_u (i32.sub (global.get $at) (local.get $start)) (i32.const 1)))
      (then (return (i32.const -1))))
    ;; What may follow: the end, space, a comma, a brace.
    (local.set $byte (call $next))
    (if (result i32)
      (i32.or (i32.or (i32.eq (global.get $at) (global.get $end)) (call $is_space (local.get $byte)))
        (i32.or (i32.eq (local.get $byte) (i32.const 44)) (i32.eq (local.get $byte) (i32.const 125))))
      (then (local.get $number))
      (else (i32.const -1))))

  ;; Answers with what has been said.
  (func $refuse (result i32)
    (i32.store8 (i32.const 1088) (i32.const 1))
    (call $put_said (i32.const 1092))
    (i32.const 1088))

  (func $refuse_range (param $key i32) (param $least i32) (param $most i32) (result i32)
    (call $begin_text (i32.const 128))
    (call $say (local.get $key))
    (call $say (i32.const 544))
    (call $say_number (local.get $least))
    (call $say (i32.const 576))
    (call $say_number (local.get $most))
    (call $refuse))

  (func $outside (param $number i32) (param $least i32) (param $most i32) (result i32)
    (i32.or (i32.lt_s (local.get $number) (local.get $least)) (i32.gt_s (local.get $number) (local.get $most))))

  (func (export "ballast:policy/policy@0.1.0#configure") (param $json i32) (param $bytes i32) (result i32)
    (local $key i32) (local $key_bytes i32) (local $threshold i32) (local $moves_max i32)
    (global.set $at (local.get $json))
    (global.set $end (i32.add (local.get $json) (local.get $bytes)))
    (local.set $threshold (i32.const 110))
    (local.set $moves_max (i32.const 100))
    (block $malformed
      (br_if $malformed (i32.eqz (call $skip (i32.const 123))))
      (if (i32.eqz (call $skip (i32.const 125)))
        (then
          (loop $members
            (br_if $malformed (i32.eqz (call $skip (i32.const 34))))
            ;; The key ends at a quote; an escape, a control character or the end are none.
            (local.set $key (global.get $at))
            (loop $letters
              (if (i32.and
                    (i32.ge_u (call $next) (i32.const 32))
                    (i32.and (i32.ne (call $next) (i32.const 34)) (i32.ne (call $next) (i32.const 92))))
                (then (call $advance) (br $letters))))
            (local.set $key_bytes (i32.sub (global.get $at) (local.get $key)))
            (br_if $malformed (i32.ne (call $next) (i32.const 34)))
            (call $advance)
            (br_if $malformed (i32.eqz (call $skip (i32.const 58))))
            (block $known
              (if (call $same (local.get $key) (local.get $key_bytes) (i32.const 448))
                (then
                  (local.set $threshold (call $whole))
                  (br_if $known (i32.eqz (call $outside (local.get $threshold) (i32.const 100) (i32.const 1000))))
                  (return (call $refuse_range (i32.const 448) (i32.const 100) (i32.const 1000)))))
              (if (call $same (local.get $key) (local.get $key_bytes) (i32.const 480))
                (then
                  (local.set $moves_max (call $whole))
                  (br_if $known (i32.eqz (call $outside (local.get $moves_max) (i32.const 1) (i32.const 1000))))
                  (return (call $refuse_range (i32.const 480) (i32.const 1) (i32.const 1000)))))
              (call $begin_text (i32.add (local.get $key_bytes) (i32.const 128)))
              (call $say (i32.const 584))
              (call $say_bytes (local.get $key) (local.get $key_bytes))
              (call $say (i32.const 608))
              (return (call $refuse)))
            (br_if $members (call $skip (i32.const 44))))
          (br_if $malformed (i32.eqz (call $skip (i32.const 125))))))
      (call $skip_space)
      (br_if $malformed (i32.ne (global.get $at) (global.get $end)))
      ;; What was configured before stays in force unless everything is right.
      (global.set $threshold (local.get $threshold))
      (global.set $moves_max (local.get $moves_max))
      (i32.store8 (i32.const 1088) (i32.const 0))
      (return (i32.const 1088)))
    (call $begin_text (i32.const 64))
    (call $say (i32.const 496))
    (call $refuse))

  ;; ------ plan: answers a result<proposal, failure> at 1104; what it asks is written from 1136

  ;; Nodes, 16 bytes each: load (f64), gets (i8), drains (i8), spent (i8).
  (global $nodes (mut i32) (i32.const 0))
  (global $nodes_end (mut i32) (i32.const 0))
  ;; By slot: owners (u32), bytes (f64), and whether the slot has moved (i8), since none moves twice.
  (global $owners (mut i32) (i32.const 0))
  (global $bytes (mut i32) (i32.const 0))
  (global $moved (mut i32) (i32.const 0))
  ;; The moves made, 16 bytes each: slot (u16), target (u32), reason (text).
  (global $moves (mut i32) (i32.const 0))
  (global $made (mut i32) (i32.const 0))

  (func $node (param $index i32) (result i32)
    (i32.add (global.get $nodes) (i32.shl (local.get $index) (i32.const 4))))
  (func $count (result i32)
    (i32.shr_u (i32.sub (global.get $nodes_end) (global.get $nodes)) (i32.const 4)))
  (func $owner_at (param $slot i32) (result i32)
    (i32.add (global.get $owners) (i32.shl (local.get $slot) (i32.const 2))))
  (func $bytes_of (param $slot i32) (result f64)
    (f64.load (i32.add (global.get $bytes) (i32.shl (local.get $slot) (i32.const 3)))))
  (func $moved_at (param $slot i32) (result i32)
    (i32.add (global.get $moved) (local.get $slot)))

  ;; Of the nodes that may get slots, the address of the one with the least; 0 if there is none. Of equals, the first.
  (func $emptiest (result i32)
    (local $node i32) (local $least i32)
    (local.set $node (global.get $nodes))
    (block $done
      (loop $more
        (br_if $done (i32.eq (local.get $node) (global.get $nodes_end)))
        (if (i32.load8_u offset=8 (local.get $node))
          (then
            (if (i32.eqz (local.get $least)) (then (local.set $least (local.get $node))))
            (if (f64.lt (f64.load (local.get $node)) (f64.load (local.get $least)))
              (then (local.set $least (local.get $node))))))
        (local.set $node (i32.add (local.get $node) (i32.const 16)))
        (br $more)))
    (local.get $least))

  ;; Of the nodes that are not spent, the address of the one with the most; 0 if there is none. Of equals, the first.
  (func $fullest (result i32)
    (local $node i32) (local $most i32)
    (local.set $node (global.get $nodes))
    (block $done
      (loop $more
        (br_if $done (i32.eq (local.get $node) (global.get $nodes_end)))
        (if (i32.eqz (i32.load8_u offset=10 (local.get $node)))
          (then
            (if (i32.eqz (local.get $most)) (then (local.set $most (local.get $node))))
            (if (f64.gt (f64.load (local.get $node)) (f64.load (local.get $most)))
              (then (local.set $most (local.get $node))))))
        (local.set $node (i32.add (local.get $node) (i32.const 16)))
        (br $more)))
    (local.get $most))

  (func $carry (param $slot i32) (param $giver i32) (param $taker i32) (param $reason i32)
    (local $move i32) (local $target i32)
    (f64.store (local.get $giver) (f64.sub (f64.load (local.get $giver)) (call $bytes_of (local.get $slot))))
    (f64.store (local.get $taker) (f64.add (f64.load (local.get $taker)) (call $bytes_of (local.get $slot))))
    (local.set $target (i32.shr_u (i32.sub (local.get $taker) (global.get $nodes)) (i32.const 4)))
    (i32.store (call $owner_at (local.get $slot)) (local.get $target))
    (i32.store8 (call $moved_at (local.get $slot)) (i32.const 1))
    (local.set $move (i32.add (global.get $moves) (i32.shl (global.get $made) (i32.const 4))))
    (i32.store16 (local.get $move) (local.get $slot))
    (i32.store offset=4 (local.get $move) (local.get $target))
    (call $put (i32.add (local.get $move) (i32.const 8)) (local.get $reason))
    (global.set $made (i32.add (global.get $made) (i32.const 1))))

  ;; Notes a tag of a node, 8 bytes at $tag: every known one but "primary" and "empty" means that it gets nothing.
  (func $note_tag (param $node i32) (param $tag i32)
    (local $at i32) (local $bytes i32)
    (local.set $at (i32.load (local.get $tag)))
    (local.set $bytes (i32.load offset=4 (local.get $tag)))
    (if (call $same (local.get $at) (local.get $bytes) (i32.const 272))
      (then
        ;; What drains gives first of all, and never as the fullest.
        (i32.store8 offset=9 (local.get $node) (i32.const 1))
        (i32.store8 offset=10 (local.get $node) (i32.const 1))))
    (if (i32.or (i32.load8_u offset=9 (local.get $node))
          (i32.or (call $same (local.get $at) (local.get $bytes) (i32.const 256))
            (i32.or (call $same (local.get $at) (local.get $bytes) (i32.const 288))
              (call $same (local.get $at) (local.get $bytes) (i32.const 304)))))
      (then (i32.store8 offset=8 (local.get $node) (i32.const 0)))))

  ;; Fills $nodes from what the daemon tells: records of 32 bytes, whose tags are at 24.
  (func $read_nodes
    (local $told i32) (local $node i32) (local $tag i32) (local $tags_end i32)
    (call $ask_nodes (i32.const 1136))
    (local.set $told (i32.load (i32.const 1136)))
    (global.set $nodes (call $alloc (i32.shl (i32.load (i32.const 1140)) (i32.const 4))))
    (global.set $nodes_end (i32.add (global.get $nodes) (i32.shl (i32.load (i32.const 1140)) (i32.const 4))))
    (local.set $node (global.get $nodes))
    (block $done
      (loop $more
        (br_if $done (i32.eq (local.get $node) (global.get $nodes_end)))
        (i32.store8 offset=8 (local.get $node) (i32.const 1))
        (local.set $tag (i32.load offset=24 (local.get $told)))
        (local.set $tags_end (i32.add (local.get $tag) (i32.shl (i32.load offset=28 (local.get $told)) (i32.const 3))))
        (block $no_more_tags
          (loop $tags
            (br_if $no_more_tags (i32.eq (local.get $tag) (local.get $tags_end)))
            (call $note_tag (local.get $node) (local.get $tag))
            (local.set $tag (i32.add (local.get $tag) (i32.const 8)))
            (br $tags)))
        (local.set $told (i32.add (local.get $told) (i32.const 32)))
        (local.set $node (i32.add (local.get $node) (i32.const 16)))
        (br $more))))

  ;; Moves that have begun are as good as done, and their slots stay where they go.
  (func $read_in_flight
    (local $move i32) (local $end i32) (local $slot i32)
    (call $ask_in_flight (i32.const 1136))
    (local.set $move (i32.load (i32.const 1136)))
    (local.set $end (i32.add (local.get $move) (i32.shl (i32.load (i32.const 1140)) (i32.const 4))))
    (block $done
      (loop $more
        (br_if $done (i32.eq (local.get $move) (local.get $end)))
        (local.set $slot (i32.load16_u (local.get $move)))
        (i32.store (call $owner_at (local.get $slot)) (i32.load offset=4 (local.get $move)))
        (i32.store8 (call $moved_at (local.get $slot)) (i32.const 1))
        (local.set $move (i32.add (local.get $move) (i32.const 16)))
        (br $more))))

  ;; The giver's largest slot of at most $limit bytes that has not moved; -1 if there is none. Of equals, the first.
  (func $largest (param $giver i32) (param $limit f64) (result i32)
    (local $slot i32) (local $best i32) (local $size f64) (local $bytes f64) (local $owner i32) (local $moved i32)
    (local.set $best (i32.const -1))
    (local.set $owner (global.get $owners))
    (local.set $moved (global.get $moved))
    ;; All slots for every move: the only place where a call for each of them would be felt.
    (loop $more
      (if (i32.eq (i32.load (local.get $owner)) (local.get $giver))
        (then
          (local.set $bytes (f64.load (i32.add (global.get $bytes) (i32.shl (local.get $slot) (i32.const 3)))))
          (if (i32.and (i32.eqz (i32.load8_u (i32.add (local.get $moved) (local.get $slot))))
                (i32.and (f64.gt (local.get $bytes) (local.get $size)) (f64.le (local.get $bytes) (local.get $limit))))
            (then
              (local.set $best (local.get $slot))
              (local.set $size (local.get $bytes))))))
      (local.set $owner (i32.add (local.get $owner) (i32.const 4)))
      (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $slot) (i32.const 16384))))
    (local.get $best))

  ;; Draining nodes are emptied first, lowest slots first.
  (func $drain
    (local $slot i32) (local $owner i32)
    (loop $more
      (if (i32.ge_u (global.get $made) (global.get $moves_max)) (then (return)))
      (local.set $owner (i32.load (call $owner_at (local.get $slot))))
      (if (i32.lt_u (local.get $owner) (call $count))
        (then
          (if (i32.and (i32.load8_u offset=9 (call $node (local.get $owner)))
                (i32.eqz (i32.load8_u (call $moved_at (local.get $slot)))))
            (then (call $carry (local.get $slot) (call $node (local.get $owner)) (call $emptiest) (i32.const 320))))))
      (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $slot) (i32.const 16384)))))

  ;; Then the fullest node gives while it is above the threshold.
  (func $even (param $fair f64)
    (local $giver i32) (local $taker i32) (local $best i32)
    (loop $more
      (if (i32.ge_u (global.get $made) (global.get $moves_max)) (then (return)))
      (local.set $giver (call $fullest))
      (if (i32.eqz (local.get $giver)) (then (return)))
      (if (f64.le
            (f64.mul (f64.const 100) (f64.load (local.get $giver)))
            (f64.mul (f64.convert_i32_u (global.get $threshold)) (local.get $fair)))
        (then (return)))
      (local.set $taker (call $emptiest))
      (local.set $best (call $largest
        (i32.shr_u (i32.sub (local.get $giver) (global.get $nodes)) (i32.const 4))
        (f64.div (f64.sub (f64.load (local.get $giver)) (f64.load (local.get $taker))) (f64.const 2))))
      (if (i32.lt_s (local.get $best) (i32.const 0))
        (then (i32.store8 offset=10 (local.get $giver) (i32.const 1)))
        (else (call $carry (local.get $best) (local.get $giver) (local.get $taker) (i32.const 328))))
      (br $more)))

  (func (export "ballast:policy/policy@0.1.0#plan") (result i32)
    (local $index i32) (local $owner i32) (local $node i32) (local $gauge i32)
    (local $total f64) (local $most f64) (local $kept f64) (local $fair f64) (local $imbalance f64)
    ;; Ok, no moves, no gauges.
    (memory.fill (i32.const 1104) (i32.const 0) (i32.const 28))
    (call $ask_slot_metric (i32.const 208) (i32.const 5) (i32.const 1136))
    (if (i32.eqz (i32.load8_u (i32.const 1136)))
      (then
        ;; An error, of which not-ready is the second.
        (i32.store8 (i32.const 1104) (i32.const 1))
        (i32.store8 (i32.const 1108) (i32.const 1))
        (call $put (i32.const 1112) (i32.const 224))
        (return (i32.const 1104))))
    (global.set $bytes (i32.load (i32.const 1140)))
    (call $read_nodes)
    (call $ask_owners (i32.const 1136))
    (global.set $owners (i32.load (i32.const 1136)))
    (global.set $moved (call $alloc (i32.const 16384)))
    (call $read_in_flight)
    (loop $slots
      (local.set $owner (i32.load (call $owner_at (local.get $index))))
      (if (i32.lt_u (local.get $owner) (call $count))
        (then
          (local.set $node (call $node (local.get $owner)))
          (f64.store (local.get $node) (f64.add (f64.load (local.get $node)) (call $bytes_of (local.get $index))))))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $slots (i32.lt_u (local.get $index) (i32.const 16384))))
    (if (i32.eqz (call $emptiest))
      (then
        (call $put (i32.const 1116) (i32.const 352))
        (return (i32.const 1104))))

    (local.set $node (global.get $nodes))
    (loop $more
      (local.set $total (f64.add (local.get $total) (f64.load (local.get $node))))
      (if (i32.eqz (i32.load8_u offset=9 (local.get $node)))
        (then
          (local.set $kept (f64.add (local.get $kept) (f64.const 1)))
          (local.set $most (f64.max (local.get $most) (f64.load (local.get $node))))))
      (local.set $node (i32.add (local.get $node) (i32.const 16)))
      (br_if $more (i32.lt_u (local.get $node) (global.get $nodes_end))))
    (local.set $fair (f64.div (local.get $total) (local.get $kept)))
    (local.set $imbalance (f64.const 1))
    (if (f64.gt (local.get $fair) (f64.const 0))
      (then (local.set $imbalance (f64.div (local.get $most) (local.get $fair)))))

    (global.set $moves (call $alloc (i32.shl (global.get $moves_max) (i32.const 4))))
    (global.set $made (i32.const 0))
    (call $drain)
    (call $even (local.get $fair))

    (i32.store (i32.const 1108) (global.get $moves))
    (i32.store (i32.const 1112) (global.get $made))
    (call $begin_text (i32.const 128))
    (call $say (i32.const 376))
    (call $say_number (global.get $made))
    (call $say (i32.const 384))
    (call $say_number (i32.trunc_f64_u (f64.mul (local.get $imbalance) (f64.const 100))))
    (call $say (i32.const 416))
    (call $put_said (i32.const 1116))
    (local.set $gauge (call $alloc (i32.const 16)))
    (call $put (local.get $gauge) (i32.const 336))
    (f64.store offset=8 (local.get $gauge) (local.get $imbalance))
    (i32.store (i32.const 1124) (local.get $gauge))
    (i32.store (i32.const 1128) (i32.const 1))
    (i32.const 1104)))
