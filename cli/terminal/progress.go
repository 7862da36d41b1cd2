package terminal

import (
	"strings"
	"sync"
	"time"
)

// progressEvery is how often the progress is drawn again.
const progressEvery = 100 * time.Millisecond

// clearLine takes the cursor to the beginning of the line and empties it.
const clearLine = "\r\x1b[K"

// A Progress draws one line on a terminal again and again, and lets other talk pass
// above it. Where stderr is no terminal it draws nothing.
type Progress struct {
	out *Outside
	off bool

	mu    sync.Mutex // guards drawn and what is written to stderr
	drawn bool
	quit  chan struct{}
	ended sync.WaitGroup
}

// NewProgress makes a progress that is not drawn yet; off keeps it from ever being.
func NewProgress(out *Outside, off bool) *Progress {
	return &Progress{out: out, off: off || !out.TalksToTerminal(), quit: make(chan struct{})}
}

// Watch begins to draw what line gives.
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
	line = Printable(line)
	if width := p.out.Width() - 1; len([]rune(line)) > width {
		line = string([]rune(line)[:width])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drawn = true
	_, _ = p.out.Stderr.Write([]byte(clearLine + line))
}

// Talk writes a line for people above the progress.
func (p *Progress) Talk(format string, args ...any) {
	p.Above(func() { p.out.Talk(format, args...) })
}

// Above has something written above the progress, whose line is empty meanwhile.
func (p *Progress) Above(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	write()
}

// Drawn reports whether there is a terminal to draw on.
func (p *Progress) Drawn() bool { return !p.off }

// clear empties the line; the lock must be held.
func (p *Progress) clear() {
	if p.drawn {
		_, _ = p.out.Stderr.Write([]byte(clearLine))
		p.drawn = false
	}
}

// Stop ends the drawing and empties the line.
func (p *Progress) Stop() {
	close(p.quit)
	p.ended.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Bar draws a share of one as a bar with its percentage.
func Bar(share float64) string {
	const cells = 24
	share = min(max(share, 0), 1)
	full := int(share * cells)
	percent := []byte("  0%")
	for n, at := int(share*100), 2; n > 0; n, at = n/10, at-1 {
		percent[at] = byte('0' + n%10)
	}
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + " " + string(percent)
}
