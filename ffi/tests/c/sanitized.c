/* Links only if the compiler has the runtimes of its sanitizers. */
int main(void)
{
    return 0;
}
