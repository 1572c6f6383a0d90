// hlsl.exe FOLDER: hand every .hlsl file of the folder to Microsoft's compilers as wgpu does, d3dcompiler_47.dll (FXC, shader model 5.1; it knows no
// subgroups) and dxcompiler.dll (DXC, shader model 6.0, and the validator inside it), two files at once. A file's name is emprune.ENTRY....hlsl.
#include <windows.h>
#include <d3dcompiler.h>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

// What dxcapi.h says, which MinGW does not have.
struct DxcBuffer { const void *pointer; SIZE_T size; UINT encoding; };
struct DxcBlob : IUnknown {
    virtual void *STDMETHODCALLTYPE pointer() = 0;
    virtual SIZE_T STDMETHODCALLTYPE size() = 0;
};
struct DxcResult : IUnknown {
    virtual HRESULT STDMETHODCALLTYPE status(HRESULT *) = 0;
    virtual HRESULT STDMETHODCALLTYPE result(DxcBlob **) = 0;
    virtual HRESULT STDMETHODCALLTYPE errors(DxcBlob **) = 0;
};
struct DxcCompiler : IUnknown {
    virtual HRESULT STDMETHODCALLTYPE compile(const DxcBuffer *, const wchar_t **, UINT32, IUnknown *, REFIID, void **) = 0;
};
const GUID DXC = {0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
const GUID DXC_COMPILER = {0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
const GUID DXC_RESULT = {0xcedb484a, 0xd4e9, 0x445a, {0xb9, 0x91, 0xca, 0x21, 0xca, 0x15, 0x7d, 0xc2}};

// An empty answer is a program of more than no bytes.
static std::string fxc(pD3DCompile compile, const std::string &source, const std::string &entry) {
    ID3DBlob *code = nullptr, *errors = nullptr;
    HRESULT result = compile(source.data(), source.size(), nullptr, nullptr, nullptr, entry.c_str(), "cs_5_1", D3DCOMPILE_ENABLE_STRICTNESS, 0, &code, &errors);
    if (SUCCEEDED(result) && code && code->GetBufferSize() > 0) return "";
    return errors ? std::string(static_cast<char *>(errors->GetBufferPointer())) : "failed without a word";
}

static std::string dxc(DxcCompiler *compiler, const std::string &source, const std::string &entry) {
    std::wstring wide(entry.begin(), entry.end());
    const wchar_t *arguments[] = {L"-E", wide.c_str(), L"-T", L"cs_6_0", L"-HV", L"2018", L"-no-warnings"};
    DxcBuffer buffer = {source.data(), source.size(), 65001}; // UTF-8
    DxcResult *result = nullptr;
    HRESULT status = compiler->compile(&buffer, arguments, 7, nullptr, DXC_RESULT, reinterpret_cast<void **>(&result));
    if (FAILED(status)) return "failed without a word";
    DxcBlob *code = nullptr, *errors = nullptr;
    if (SUCCEEDED(result->status(&status)) && SUCCEEDED(status) && SUCCEEDED(result->result(&code)) && code && code->size() > 0) return "";
    bool said = SUCCEEDED(result->errors(&errors)) && errors && errors->size() > 0;
    return said ? std::string(static_cast<char *>(errors->pointer()), errors->size()) : "failed without a word";
}

struct Question {
    int judge; // FXC, DXC
    std::string name;
};

struct Court {
    std::string folder;
    std::vector<Question> questions;
    LONG next = 0, done = 0;
    int passed[2] = {0, 0}, refused = 0;
    ULONGLONG start = GetTickCount64(), told = start, slowest[2] = {0, 0};
    std::string slow[2];
    CRITICAL_SECTION lock;
};
static const char *const JUDGES[2] = {"FXC", "DXC"};

// One of several threads that take questions until there are none. Each has a DXC of its own, as its makers ask.
static DWORD WINAPI judge(void *argument) {
    Court &court = *static_cast<Court *>(argument);
    auto create = reinterpret_cast<HRESULT(WINAPI *)(REFIID, REFIID, void **)>(GetProcAddress(LoadLibraryA("dxcompiler.dll"), "DxcCreateInstance"));
    auto compile = reinterpret_cast<pD3DCompile>(GetProcAddress(LoadLibraryA("d3dcompiler_47.dll"), "D3DCompile"));
    DxcCompiler *compiler = nullptr;
    if (!compile || !create || FAILED(create(DXC, DXC_COMPILER, reinterpret_cast<void **>(&compiler)))) {
        fprintf(stderr, "dxcompiler.dll or d3dcompiler_47.dll is missing\n");
        ExitProcess(1);
    }
    for (;;) {
        size_t number = InterlockedIncrement(&court.next) - 1;
        if (number >= court.questions.size()) return 0;
        auto [which, name] = court.questions[number];
        std::stringstream source;
        source << std::ifstream(court.folder + "/" + name, std::ios::binary).rdbuf();
        size_t dot = name.find('.') + 1;
        std::string entry = name.substr(dot, name.find('.', dot) - dot);
        ULONGLONG start = GetTickCount64();
        std::string said = which == 0 ? fxc(compile, source.str(), entry) : dxc(compiler, source.str(), entry);
        ULONGLONG now = GetTickCount64();

        EnterCriticalSection(&court.lock);
        if (now - start >= court.slowest[which]) { court.slowest[which] = now - start; court.slow[which] = name; }
        if (said.empty()) {
            court.passed[which]++;
        } else {
            court.refused++;
            fprintf(stderr, "%s refuses %s:\n%s\n", JUDGES[which], name.c_str(), said.c_str());
        }
        court.done++;
        if (now - court.told >= 15000) {
            court.told = now;
            fprintf(stderr, "FXC and DXC: %d of %d after %d s\n", int(court.done), int(court.questions.size()), int((now - court.start) / 1000));
        }
        LeaveCriticalSection(&court.lock);
    }
}

int main(int, char **argv) {
    Court court;
    court.folder = argv[1];
    InitializeCriticalSection(&court.lock);
    WIN32_FIND_DATAA found;
    HANDLE search = FindFirstFileA((court.folder + "/*.hlsl").c_str(), &found);
    for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileA(search, &found)) {
        std::string name = found.cFileName;
        auto has = [&](const char *part) { return name.find(part) != std::string::npos; };
        // FXC takes up to half a minute for one: of the dtypes one stands for the others, by turns; and f32 for them all where there are checks.
        int turn = has(".f16") + 2 * has(".bf16") + has(".wanda") + has(".write") + has(".1.") + 2 * has(".16.") + has(".128.");
        bool asked = turn % 3 == 0 && (!has(".checked") || has(".f32"));
        if (!has(".subgroup") && asked) court.questions.push_back({0, name});
        court.questions.push_back({1, name});
    }
    HANDLE threads[2];
    for (HANDLE &thread : threads) thread = CreateThread(nullptr, 64 << 20, judge, &court, 0, nullptr);
    WaitForMultipleObjects(2, threads, TRUE, INFINITE);
    for (int which : {0, 1}) {
        printf("%s: %d passed; the slowest took %.1f s, %s\n", JUDGES[which], court.passed[which], court.slowest[which] / 1000.0, court.slow[which].c_str());
    }
    if (court.refused > 0) printf("%d refused\n", court.refused);
    return court.passed[0] > 0 && court.passed[1] > 0 && court.refused == 0 ? 0 : 1;
}
