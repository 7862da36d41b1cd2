// Package task has the words of Posta: Task, State, Options, Error, codes and limits. All other packages use them.
// It imports only the standard library and does no IO.
package task
