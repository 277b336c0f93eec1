// Prints whose rights the process has: the setuid program of the NoNewPrivs specs.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("Effective uid: %d\n", os.Geteuid())
}
