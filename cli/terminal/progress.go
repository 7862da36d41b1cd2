package terminal

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// progressEvery is how often the progress is redrawn.
const progressEvery = 100 * time.Millisecond

// clearLine moves the cursor to the beginning of the line and clears the line.
const clearLine = "\r\x1b[K"

// Progress redraws one line on a terminal, and prints other lines above it. If Stderr is not a terminal, it draws
// nothing.
type Progress struct {
	out *Outside
	off bool

	mu    sync.Mutex // guards drawn, and writes to Stderr
	drawn bool
	quit  chan struct{}
	ended sync.WaitGroup
}

// NewProgress returns a Progress that is not drawn yet. off disables it.
func NewProgress(out *Outside, off bool) *Progress {
	return &Progress{out: out, off: off || !out.TalksToTerminal(), quit: make(chan struct{})}
}

// Watch starts to draw the text that line returns.
func (p *Progress) Watch(line func() string) {
	if p.off {
		return
	}
	ticker := time.NewTicker(progressEvery)
	p.ended.Go(func() {
		defer ticker.Stop()
		for {
			select {
			case <-p.quit:
				return
			case <-ticker.C:
				p.draw(line())
			}
		}
	})
}

func (p *Progress) draw(line string) {
	line = Fit(Printable(line), p.out.Width()-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drawn = true
	_, _ = p.out.Stderr.Write([]byte(clearLine + line))
}

// Talk prints a line for people above the progress.
func (p *Progress) Talk(format string, args ...any) {
	p.Above(func() { p.out.Talk(format, args...) })
}

// Above clears the progress line and calls write. The next redraw shows the line again.
func (p *Progress) Above(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	write()
}

// Drawn reports whether there is a terminal to draw on.
func (p *Progress) Drawn() bool { return !p.off }

// clear clears the line. The caller holds mu.
func (p *Progress) clear() {
	if p.drawn {
		_, _ = p.out.Stderr.Write([]byte(clearLine))
		p.drawn = false
	}
}

// Stop stops drawing and clears the line.
func (p *Progress) Stop() {
	close(p.quit)
	p.ended.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Bar returns a share from 0 to 1 as a bar with its percentage.
func Bar(share float64) string {
	const cells = 24
	if !(share >= 0) { // NaN, too
		share = 0
	}
	share = min(share, 1)
	full := int(share * cells)
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %3.0f%%", share*100)
}
