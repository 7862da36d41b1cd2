package sqlite

// WindowSize is how many ids of a lane a claim reads at a time.
const WindowSize = windowSize
