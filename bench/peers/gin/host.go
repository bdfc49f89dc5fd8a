// What serves `peer.go` and speaks the protocol of loads/host.ts.
//   GO111MODULE=off GOPATH=/usr/share/gocode go build peer.go clients.go host.go

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/gin-gonic/gin"
)

func answer(c *gin.Context) {
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	i := 0
	c.Stream(func(w io.Writer) bool {
		if i++; i%20 == 0 {
			runtime.Gosched()
		}
		c.SSEvent("message", text(i, now(), 0, "x"))
		return i < 500
	})
}

// Of CLOCK_MONOTONIC, as all processes of the suite have it.
func now() int64 {
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*1e6 + t.Nsec/1e3
}

// As loads/texts.ts has it; what it fills up with as JSON is not the same record, but of the same kind.
func text(seq int, at int64, bytes int, filling string) string {
	head := fmt.Sprintf("@%d %d ", seq, at)
	if len(head) >= bytes {
		return head
	}
	if filling == "x" {
		return head + strings.Repeat("x", bytes-len(head))
	}
	var record strings.Builder
	fmt.Fprintf(&record, `{"type":"update","sequence":%d`, seq)
	for i := 0; record.Len() < bytes; i++ {
		fmt.Fprintf(&record, `,"price_%d":%d.%02d`, i, (seq*40+i)*2654435761%10000, i%100)
	}
	return head + record.String()[:bytes-len(head)]
}

var sent = map[string]int{}

func run(count, batch int, interval, duration int64, bytes int, filling string) {
	begin, turns := now(), int64(0)
	for due := begin; due < begin+duration*1000 || turns == 0; {
		if early := due - now(); early > 0 {
			time.Sleep(time.Duration(early) * time.Microsecond)
		}
		for i := 0; i < count; i++ {
			topic, texts := fmt.Sprintf("t%d", i), make([]string, batch)
			for k := range texts {
				sent[topic]++
				texts[k] = text(sent[topic], due, bytes, filling)
			}
			publish(topic, texts)
		}
		turns++
		if due = begin + turns*interval; interval == 0 {
			due = now()
		}
	}
	fmt.Printf("done %d %d\n", turns, now()-begin)
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println(gin.Version, runtime.Version())
		return
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/events", events)
	router.POST("/answer", answer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, router)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var topics, batch, bytes int
		var interval, duration int64
		var filling string
		if n, _ := fmt.Sscanf(lines.Text(), "run %d %d %d %d %d %s", &topics, &batch, &interval, &duration, &bytes, &filling); n == 6 {
			run(topics, batch, interval, duration, bytes, filling)
		} else {
			debug.FreeOSMemory()
			fmt.Println("gone")
		}
	}
}
