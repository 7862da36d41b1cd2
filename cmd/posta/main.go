// Command posta sends tasks to worker nodes, and is those nodes and the balancer
// in front of them. `posta up` starts all of it in one process; `posta help` lists
// the verbs.
package main

import "github.com/posta-tasks/posta"

func main() { posta.Main(posta.Builtin()...) }
