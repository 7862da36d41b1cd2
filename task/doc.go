// Package task holds Posta's words: what a refusal is called, which codes it may carry
// and which limits it may name. Every other room speaks in these terms; this one
// imports nothing but the standard library and does no IO.
package task
