//! How many slots each node should have: shares by weight, whole numbers, and as little to move as these allow.

/// A node, as counting sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seat {
    /// How many slots it has.
    pub(crate) slots: usize,
    /// Its share, relative to others; 0 empties it.
    pub(crate) weight: f64,
    /// Whether slots may leave it.
    pub(crate) gives: bool,
    /// Whether slots may go there.
    pub(crate) gets: bool,
}

/// The number of slots that each node should have; their sum is the sum of what there is.
pub(crate) fn wanted(seats: &[Seat]) -> Vec<usize> {
    let mut fixed: Vec<Option<usize>> = seats
        .iter()
        .map(|seat| if !seat.gives || (!seat.gets && seat.slots == 0) { Some(seat.slots) } else { None })
        .collect();
    // What gets nothing and has less than its share keeps what it has, which raises the share of the others.
    loop {
        let share = Share::of(seats, &fixed);
        let short = (0..seats.len()).find(|node| {
            fixed[*node].is_none()
                && !seats[*node].gets
                && (seats[*node].slots as f64) < share.of_weight(seats[*node].weight)
        });
        match short {
            Some(node) => fixed[node] = Some(seats[node].slots),
            None => break,
        }
    }
    let share = Share::of(seats, &fixed);
    if share.weight <= 0.0 {
        return seats.iter().map(|seat| seat.slots).collect();
    }
    let exact: Vec<f64> = seats.iter().map(|seat| share.of_weight(seat.weight)).collect();
    let mut wanted: Vec<usize> =
        fixed.iter().zip(&exact).map(|(fixed, exact)| fixed.unwrap_or(exact.floor() as usize)).collect();
    // The rest of the division goes where it saves a move: to nodes that have more than the rounded share anyway.
    let mut order: Vec<usize> =
        (0..seats.len()).filter(|node| fixed[*node].is_none() && seats[*node].weight > 0.0).collect();
    let saves = |node: usize| seats[node].slots > wanted[node];
    let fraction = |node: usize| exact[node] - exact[node].floor();
    order.sort_by(|one, other| {
        (saves(*other).cmp(&saves(*one))).then(fraction(*other).total_cmp(&fraction(*one))).then(one.cmp(other))
    });
    order.retain(|node| saves(*node) || seats[*node].gets);
    let missing = seats.iter().map(|seat| seat.slots).sum::<usize>().saturating_sub(wanted.iter().sum());
    for node in order.iter().cycle().take(if order.is_empty() { 0 } else { missing }) {
        wanted[*node] += 1;
    }
    wanted
}

/// What is left for the nodes that are not fixed.
struct Share {
    slots: f64,
    weight: f64,
}

impl Share {
    fn of(seats: &[Seat], fixed: &[Option<usize>]) -> Self {
        let free = || seats.iter().zip(fixed).filter(|(_, fixed)| fixed.is_none());
        let kept: usize = fixed.iter().flatten().sum();
        let all: usize = seats.iter().map(|seat| seat.slots).sum();
        Self { slots: (all - kept) as f64, weight: free().map(|(seat, _)| seat.weight).sum() }
    }

    fn of_weight(&self, weight: f64) -> f64 {
        if self.weight > 0.0 { self.slots * weight / self.weight } else { 0.0 }
    }
}
