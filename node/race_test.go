//go:build race

package node_test

// raceFactor is how much more memory a program needs with the race detector.
const raceFactor = 4
