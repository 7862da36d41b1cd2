//go:build !linux

package procgroup

import "syscall"

// Attributes returns the attributes of a program that has a group of its own.
func Attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// watch reaps the program when it ends, and then closes ended: only Linux can wait for the end without reaping.
func (p *Process) watch() {
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		p.err = p.cmd.Wait()
	}()
}

// wait does nothing: the program is reaped.
func (p *Process) wait() {}
